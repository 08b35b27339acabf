"""What clients saw, and whether any order of their calls explains it: linearizability, one project at a time.

A call takes effect at one instant between its first byte and its answer; one whose answer was lost may take it at any
later instant, or never. The search is Wing and Gong's (1993), with the states it has been in remembered (Lowe, 2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Dict, FrozenSet, Iterator, List, Optional, Sequence, Set, Tuple

LOST = 0
#: So many calls are shown before the first that does not fit.
_CONTEXT = 15


@dataclass(frozen=True)
class Project:
    """One project as the model has it: unknown to the host, down, or up with a version."""

    known: bool = False
    version: Optional[str] = None


UNKNOWN, DOWN = Project(), Project(True)
#: The version that a restart brought back when its answer does not say which.
SOME = "some"


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
        told = {name: self.reply[name] for name in ("status", "version", "want", "state", "pid", "detail") if name in self.reply}
        return f"{self.began:9.3f}–{self.ended:9.3f} #{self.client} {self.verb} {self.argument} → {self.status} {told}"


def effects(call: Call, now: Project) -> Iterator[Project]:
    """The states that the project may be in after this call with this answer; none if the answer is a lie."""
    if call.status == LOST:
        yield now
        if call.verb not in ("status", "broken") and (now.known or call.verb == "launch"):
            yield _target(call, now)
    elif call.status in (409, 429, 503):  # not now, superseded, or still under way
        yield now
        if call.verb in ("launch", "restart", "kill", "purge") and (now.known or call.verb == "launch"):
            yield _target(call, now)
            yield Project(True, now.version)
            yield DOWN
    else:
        yield from _EFFECTS[call.verb](call, now)


def _is_one_of(now: Project, end: Sequence[Project]) -> bool:
    return now in end or (now.version == SOME and any(project.version for project in end))


def _parts(call: Call) -> Iterator[Call]:
    """A purge is a kill, and then the end of what is down."""
    if call.verb == "purge":
        yield replace(call, verb="kill")
    yield call


def _target(call: Call, now: Project) -> Project:
    if call.verb == "launch":
        return Project(True, call.argument)
    if call.verb == "restart":
        return Project(True, now.version or SOME)
    return {"kill": DOWN, "purge": UNKNOWN}[call.verb]


#: Where a launch ends when the new process, or the turn that starts it, is killed before its program runs.
_KILLED_STEPS = ("start", "ready")


def _launched(call: Call, now: Project) -> Iterator[Project]:
    if call.status == 201 or (call.status == 200 and now.version in (call.argument, SOME)):
        yield Project(True, call.argument)
    elif call.status == 422 and call.reply["step"] in _KILLED_STEPS:
        yield Project(True, now.version)


def _refused(call: Call, now: Project) -> Iterator[Project]:
    if call.status == 422:
        yield now


def _killed(call: Call, now: Project) -> Iterator[Project]:
    if call.status == 404:  # it was here no more when the call had ended it, or from the beginning
        yield DOWN if now.known else now
    elif call.status == 200 and now.known:
        yield DOWN


def _purged(call: Call, now: Project) -> Iterator[Project]:
    if call.status == (200 if now == DOWN else 404):
        yield UNKNOWN


def _restarted(call: Call, now: Project) -> Iterator[Project]:
    if call.status == 200 and now.known:
        yield Project(True, call.reply["version"])
    elif call.status == 404 and not now.known:
        yield now
    elif call.status == 422 and call.reply["step"] in _KILLED_STEPS:
        yield from (now, DOWN)


def _told(call: Call, now: Project) -> Iterator[Project]:
    if call.status == 404:
        is_true = not now.known
    else:
        is_true = now.known and call.reply["want"] == ("up" if now.version else "down")
    if is_true:
        yield now


_EFFECTS = {
    "launch": _launched, "broken": _refused, "kill": _killed, "purge": _purged, "restart": _restarted, "status": _told,
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
        for index in left:
            if ordered[index].began <= first_end:
                todo += [(left - {index}, after) for after in effects(ordered[index], now)]
    left, now = furthest
    lines = [f"{'?' if index in left else ' '} {call}" for index, call in enumerate(ordered)]
    first = max(0, min(left, default=0) - _CONTEXT)
    head = f"with {now} no call marked ? can be next; at the end it is {' or '.join(map(str, end))}"
    return "\n".join([head, *lines[first : first + 4 * _CONTEXT]])
