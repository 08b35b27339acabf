"""What clients saw, and whether any order of their calls explains it: linearizability, one project at a time.

A call takes effect at one instant between its first byte and its answer; one whose answer was lost may take it at any
later instant, or never. The search is Wing and Gong's (1993), with the states it has been in remembered (Lowe, 2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, Optional, Sequence, Set, Tuple

LOST = 0
#: So many calls are shown before the first that does not fit.
_CONTEXT = 15


@dataclass(frozen=True)
class Project:
    """One project as the model has it. `version` runs (None: it is down), `current` ran well last, `kept` are the releases there
    are, oldest first. One that was never launched may have secrets, and releases that an interrupted launch left."""

    known: bool = False
    version: Optional[str] = None
    current: Optional[str] = None
    kept: Tuple[str, ...] = ()
    secrets: FrozenSet[str] = frozenset()

    def runs(self, version: str) -> Project:
        """After a launch of this version that went well."""
        return replace(self, known=True, version=version, current=version, kept=self.keeps(version))

    def keeps(self, version: str) -> Tuple[str, ...]:
        """The releases, when this version is one of them."""
        return self.kept if version in self.kept else (*self.kept, version)

    @property
    def down(self) -> Project:
        """After a kill."""
        return replace(self, version=None)

    @property
    def older(self) -> Optional[str]:
        """What a rollback goes back to that names no version."""
        before = self.kept[: self.kept.index(self.current)] if self.current in self.kept else self.kept
        return before[-1] if before else None


UNKNOWN = Project()


@dataclass
class Call:
    """One call with its answer. `status` is 0 (LOST) where the connection broke; then `ended` is infinite."""

    client: int
    verb: str
    argument: str
    began: float
    ended: float = math.inf
    status: int = LOST
    reply: Dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        names = ("status", "version", "want", "state", "pid", "secrets", "step", "detail")
        told = {name: self.reply[name] for name in names if name in self.reply}
        return f"{self.began:9.3f}–{self.ended:9.3f} #{self.client} {self.verb} {self.argument} → {self.status} {told}"


Effect = Callable[[Call, Project], Iterator[Project]]


def effects(call: Call, now: Project) -> Iterator[Project]:
    """The states that the project may be in after this call with this answer; none if the answer is a lie."""
    if call.status == LOST:  # that it had none is tried anyway
        yield from set(_PARTIAL[call.verb](call, now)) - {now}
    elif call.status == 507 or (call.status == 409 and call.reply.get("under_way")):  # refused before anything was done
        yield now
    elif call.status in (409, 429, 503) and not _has_nothing_to_run(call):  # not now, superseded, or still under way
        yield from {now, *_PARTIAL[call.verb](call, now)}
    else:
        yield from _EFFECTS[call.verb](call, now)


def _has_nothing_to_run(call: Call) -> bool:
    """What a restart and a rollback say on top of what every change may say."""
    return call.status == 409 and call.verb in ("restart", "rollback") and "step" not in call.reply


def _is_one_of(now: Project, end: Sequence[Project]) -> bool:
    """Whatever order the releases are in: no answer tells it."""
    return any(replace(now, kept=()) == replace(one, kept=()) and sorted(now.kept) == sorted(one.kept) for one in end)


def _parts(call: Call) -> Iterator[Call]:
    """A purge is a kill, and then the end of what is down; only the end has to wait for others.

    What a launch began that nobody heard of may be seen, and fail later.
    """
    if call.verb == "purge":
        yield replace(call, verb="kill", reply={})
    yield call
    if call.verb in ("launch", "restart", "rollback") and call.status == LOST:
        yield replace(call, verb="fall back")


# -- a call that may have been carried out in part ----------------------------------------------------------------


def _launched_in_part(call: Call, now: Project) -> Iterator[Project]:
    yield replace(now, kept=now.keeps(call.argument))
    yield from _started_in_part(call.argument, now)
    yield from _started_in_part(call.argument, replace(now, kept=now.keeps(call.argument)))


def _started_in_part(version: Optional[str], now: Project) -> Iterator[Project]:
    if version not in now.kept:
        return
    for running in (version, now.version, None):
        for current in (version, now.current):
            yield replace(now, known=True, version=running, current=current)


def _fell_back(call: Call, now: Project) -> Iterator[Project]:
    if now.version not in (None, now.current):  # it never ran well
        yield from {now.down, replace(now, version=now.current)}


def _restarted_in_part(call: Call, now: Project) -> Iterator[Project]:
    if now.known:
        yield from _started_in_part(now.current, now)


def _rolled_back_in_part(call: Call, now: Project) -> Iterator[Project]:
    if now.known:
        yield from _started_in_part(call.argument or now.older, now)


def _ended_in_part(call: Call, now: Project) -> Iterator[Project]:
    yield now.down


def _purged_in_part(call: Call, now: Project) -> Iterator[Project]:
    if now.known and now.version is None:
        yield UNKNOWN


def _secret_set_in_part(call: Call, now: Project) -> Iterator[Project]:
    yield replace(now, secrets=now.secrets | {call.argument})


def _secret_deleted_in_part(call: Call, now: Project) -> Iterator[Project]:
    yield replace(now, secrets=now.secrets - {call.argument})


def _nothing(call: Call, now: Project) -> Iterator[Project]:
    yield now


_PARTIAL: Dict[str, Effect] = {
    "launch": _launched_in_part, "broken": _nothing, "kill": _ended_in_part, "purge": _purged_in_part,
    "restart": _restarted_in_part, "rollback": _rolled_back_in_part, "status": _nothing, "logs": _nothing,
    "set secret": _secret_set_in_part, "delete secret": _secret_deleted_in_part, "secrets": _nothing, "fall back": _fell_back,
}  # fmt: skip


# -- a call that was answered -------------------------------------------------------------------------------------

#: Where a launch ends when the new process, or the turn that starts it, is killed before its program runs.
_KILLED_STEPS = ("start", "ready")


def _launched(call: Call, now: Project) -> Iterator[Project]:
    if call.status == 201 or (call.status == 200 and now.version == call.argument):
        yield now.runs(call.argument)
    elif call.status == 422 and call.reply["step"] in _KILLED_STEPS:
        yield replace(now, known=True)


def _refused(call: Call, now: Project) -> Iterator[Project]:
    if call.status == 422:
        yield now


def _killed(call: Call, now: Project) -> Iterator[Project]:
    if call.status == 404:  # it was here no more when the call had ended it, or from the beginning
        yield now.down
    elif call.status == 200 and now.known:
        yield now.down


def _purged(call: Call, now: Project) -> Iterator[Project]:
    if call.status == 404 and not now.known:
        yield now
    elif call.status == 200 and now.known and now.version is None:
        yield UNKNOWN


def _restarted(call: Call, now: Project) -> Iterator[Project]:
    yield from _started_again(call, now, now.current)


def _rolled_back(call: Call, now: Project) -> Iterator[Project]:
    version = call.argument or now.older
    if call.status == 404 and now.known and call.argument not in ("", *now.kept):
        yield now
    else:
        yield from _started_again(call, now, version if version in now.kept else None)


def _started_again(call: Call, now: Project, version: Optional[str]) -> Iterator[Project]:
    """`version` is what it has to be that runs; None if there is nothing to run."""
    if call.status == 200 and now.known and version is not None and call.reply["version"] == version:
        yield now.runs(version)
    elif (call.status == 404 and not now.known) or (call.status == 409 and version is None):
        yield now
    elif call.status == 422 and call.reply["step"] in _KILLED_STEPS:
        yield from {now, now.down, replace(now, version=now.current)}


def _told(call: Call, now: Project) -> Iterator[Project]:
    if call.status == 404:
        is_true = not now.known
    else:
        is_true = now.known and call.reply["want"] == ("up" if now.version else "down")
    if is_true:
        yield now


def _showed_logs(call: Call, now: Project) -> Iterator[Project]:
    if now.known == (call.status == 200):
        yield now


def _set_secret(call: Call, now: Project) -> Iterator[Project]:
    if call.status == (200 if call.argument in now.secrets else 201):
        yield replace(now, secrets=now.secrets | {call.argument})


def _deleted_secret(call: Call, now: Project) -> Iterator[Project]:
    if call.status == (200 if call.argument in now.secrets else 404):
        yield replace(now, secrets=now.secrets - {call.argument})


def _named_secrets(call: Call, now: Project) -> Iterator[Project]:
    if (now.secrets == set(call.reply["secrets"])) if call.status == 200 else (not now.known and not now.secrets):
        yield now


_EFFECTS: Dict[str, Effect] = {
    "launch": _launched, "broken": _refused, "kill": _killed, "purge": _purged, "restart": _restarted, "rollback": _rolled_back,
    "status": _told, "logs": _showed_logs, "set secret": _set_secret, "delete secret": _deleted_secret, "secrets": _named_secrets,
}  # fmt: skip


def explain(calls: Sequence[Call], end: Sequence[Project]) -> Optional[str]:
    """None if some order of these calls on one project explains every answer and leaves one of `end`; else what does not fit."""
    ordered = sorted((part for call in calls for part in _parts(call)), key=lambda call: call.began)
    everything = frozenset(range(len(ordered)))
    seen: Set[Tuple[FrozenSet[int], Project]] = set()
    todo: List[Tuple[FrozenSet[int], Project]] = [(everything, UNKNOWN)]
    furthest = todo[0]
    while todo:
        left, now = todo.pop()
        if all(ordered[index].status == LOST for index in left) and _is_one_of(now, end):
            return None
        if (left, now) in seen:
            continue
        seen.add((left, now))
        furthest = min(furthest, (left, now), key=lambda state: len(state[0]))
        first_end = min((ordered[index].ended for index in left), default=math.inf)
        for index in sorted(left, key=lambda index: ordered[index].status != LOST):  # the last one is tried first
            if ordered[index].began <= first_end:
                todo += [(left - {index}, after) for after in effects(ordered[index], now)]
    left, now = furthest
    lines = [f"{'?' if index in left else ' '} {call}" for index, call in enumerate(ordered)]
    first = max(0, min(left, default=0) - _CONTEXT)
    head = f"with {now} no call marked ? can be next; at the end it is {' or '.join(map(str, end))}"
    return "\n".join([head, *lines[first : first + 4 * _CONTEXT]])
