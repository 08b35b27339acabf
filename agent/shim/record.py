"""`want.json` and `record.json`: the contract between the agent and a shim, and its only schema.

The agent writes what it wants, durably; the shim writes what is. Both are level-triggered: each
side reads the whole of the other's latest word, so nothing can be lost but the news of it. Files
written by every released version stay under fixtures/records/ and must load for ever; members
that a newer version added are left out.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, is_dataclass
from typing import Any, Dict, Optional, Tuple

from agent import SCHEMA
from agent.host import drafts, files, standin
from agent.store.layout import ProjectLayout

#: The signal that tells a shim to read its want again.
POKE = int(signal.SIGUSR1)
#: How many ends of runs a record remembers.
EXITS_KEPT = 10


@dataclass(frozen=True)
class Want:
    """The desired state. Each change has a new generation; `version` is the release to run.

    A launch that fails goes back to `fallback`. `grace_seconds`, with up=False, overrides the
    release's own grace period for this one kill. `prepare`: its hooks and migrations come before the switch.
    `concluded`: the outcome of this generation has been drawn the consequences of. `by`: who wants it.
    """

    up: bool
    generation: int
    version: Optional[str] = None
    fallback: Optional[str] = None
    grace_seconds: Optional[float] = None
    prepare: bool = False
    concluded: bool = False
    by: str = ""


@dataclass(frozen=True)
class Outcome:
    """How the launch of one generation ended, and in which run: ready, or not and why, and in which step.

    `readiness` is the last check that failed, `output` the last output of a hook that did; `steps` are `{"name", "seconds"}` of
    what the shim did. `blameless`: it was ended from outside, which proves nothing against the release.
    """

    generation: int
    version: str
    ready: bool
    run: int = 0
    reason: str = ""
    exit_cause: Optional[Dict[str, Any]] = None
    step: str = "ready"
    readiness: Optional[Dict[str, Any]] = None
    steps: Tuple[Dict[str, Any], ...] = ()
    output: Optional[str] = None
    blameless: bool = False


@dataclass(frozen=True)
class Errand:
    """A helper process that prepares generation `about`, or probes run `about`; begun by the shim `parent` at `clock`."""

    pid: int
    start_time: int
    kind: str
    about: int
    parent: int
    boot_id: str
    clock: float = 0.0


@dataclass(frozen=True)
class Stop:
    """A stop under way: why, when SIGKILL follows (monotonic clock), and `[{"pid", "command", "signal"}]` so far."""

    reason: str
    deadline: float
    killed: Tuple[Dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Successor:
    """A second run beside the one at work: it is to take over, or (`is_retiring`) has handed over and drains, or was turned away.

    `is_newer` tells which of the two started later, at `newer_start` (clock ticks since boot). What else belongs to the older
    one has `older_mark` (`LISTEN_PID=…`) in its environment. `clock` is when it was started, `deadline` when one that
    retires is killed. `origin` is for its crash capsule (shim/capsule.py), since a release that fails its launch is deleted.
    """

    pid: int
    start_time: int
    version: str
    generation: int
    run: int
    clock: float
    is_retiring: bool = False
    is_newer: bool = True
    newer_start: int = 0
    older_mark: str = ""
    cgroup: Optional[str] = None
    ended: Optional[Dict[str, Any]] = None
    adopted: bool = False
    deadline: float = 0.0
    began: Tuple[int, ...] = ()
    origin: Optional[Dict[str, Any]] = None


@dataclass(frozen=True)
class Record:
    """The actual state, as the shim last saw it.

    `settled`: there is nothing left to do for this generation, so no shim is needed. `pid` and
    `start_time` (clock ticks since boot) name the child while there is one; `ended` is its exit cause
    once it is gone, while others of its tree are not. These, `stop` and what ends in `_clock` (monotonic
    clock, seconds) mean something only under the same `boot_id`. `prepared` is the last generation whose preparation succeeded,
    with its `steps`. `began` is the position of the run's first byte of output, `peak_bytes` and `cpu_seconds` what its
    processes that ended had used, `oom_kills` the host's count when it started. `gap` is output that the disk refused and no
    event tells of yet: (bytes, segment, offset). `last_run` numbers the latest run, a successor's too;
    `sockets` are the addresses held for the project and the inodes of their sockets. Times in `…_at` are RFC 3339 text.
    """

    project: str
    state: str = "exited"
    since: str = ""
    explanation: str = ""
    generation: int = 0
    settled: bool = False
    version: Optional[str] = None
    run: int = 0
    pid: Optional[int] = None
    start_time: Optional[int] = None
    started_at: Optional[str] = None
    started_clock: float = 0.0
    ended: Optional[Dict[str, Any]] = None
    gone_clock: Optional[float] = None
    stop: Optional[Stop] = None
    boot_id: str = ""
    cgroup: Optional[str] = None
    adopted: bool = False
    shim: Optional[Dict[str, int]] = None
    outcome: Optional[Outcome] = None
    restarts: int = 0
    failures: int = 0
    next_start_at: Optional[str] = None
    next_start_clock: float = 0.0
    exits: Tuple[Dict[str, Any], ...] = ()
    killed: Tuple[Dict[str, Any], ...] = ()
    survivors: Tuple[Dict[str, Any], ...] = ()
    successor: Optional[Successor] = None
    probation_clock: float = 0.0
    hung: bool = False
    errand: Optional[Errand] = None
    prepared: int = 0
    steps: Tuple[Dict[str, Any], ...] = ()
    began: Tuple[int, ...] = ()
    peak_bytes: int = 0
    cpu_seconds: float = 0.0
    oom_kills: int = 0
    last_run: int = 0
    sockets: Tuple[Dict[str, Any], ...] = ()
    gap: Tuple[int, ...] = ()


def read_want(layout: ProjectLayout) -> Optional[Want]:
    """The latest want; None where there is none. ValueError if the file is not one."""
    document = standin.read_json(layout.want) if standin.exists(layout.want) else drafts.read(layout.want)
    if document is None:
        return None
    if document.get("want") not in ("up", "down") or not isinstance(document.get("generation"), int):
        raise ValueError(f"{layout.want} has no want of 'up' or 'down' with a generation")
    return Want(
        document["want"] == "up", document["generation"], document.get("release"),
        document.get("fallback"), document.get("grace_seconds"), document.get("prepare", False),
        document.get("concluded", False), document.get("by", ""),
    )  # fmt: skip


def write_want(layout: ProjectLayout, want: Want) -> None:
    """Persist the want; it survives a power cut from here on, unless its disk refuses: then `is_volatile` says so."""
    draft_want(layout, want)
    settle_want(layout)


def draft_want(layout: ProjectLayout, want: Want) -> None:
    """Make this the want; a power cut before `settle_want` leaves the one before."""
    _draft(
        layout.want,
        {
            "schema": SCHEMA,
            "want": "up" if want.up else "down",
            "generation": want.generation,
            "release": want.version,
            "fallback": want.fallback,
            "grace_seconds": want.grace_seconds,
            "prepare": want.prepare,
            "concluded": want.concluded,
            "by": want.by,
        },
    )


def _draft(path: str, document: Dict[str, Any]) -> None:
    try:
        drafts.write(path, document)
    except OSError as error:
        standin.put(path, document, error)
        return
    standin.drop(path)


def settle_want(layout: ProjectLayout) -> None:
    """Persist the drafted want, if there is one, and before it the release that it names, with all its files."""
    draft = drafts.pending(layout.want)
    if draft is None:
        return
    release = layout.release_json(str(draft["release"]))
    try:
        if drafts.pending(release) is not None:
            files.sync_file_system(layout.releases)
            drafts.settle(release)
        drafts.settle(layout.want)
    except OSError as error:
        standin.put(layout.want, draft, error)


def is_volatile(layout: ProjectLayout) -> bool:
    """Whether the disk refused the latest want, so that a reboot would bring back the one before."""
    return standin.exists(layout.want)


def forget(layout: ProjectLayout) -> None:
    """The project is gone, and so is what stood in for its files."""
    for path in (layout.want, layout.record, layout.errand):
        standin.drop(path)


def read_record(layout: ProjectLayout) -> Optional[Record]:
    """The shim's latest word; None where there is none or a power cut tore it (it is not synced: a reboot voids it)."""
    try:
        document = standin.read_json(layout.record)
        if document is None:
            return None
        known = _known(Record, document)
        outcome = known.get("outcome")
        if outcome is not None:
            outcome = {**outcome, "steps": tuple(outcome.get("steps", ()))}
        known["outcome"] = Outcome(**_known(Outcome, outcome)) if outcome is not None else None
        errand = known.get("errand")
        known["errand"] = Errand(**_known(Errand, errand)) if errand is not None else None
        stop = known.get("stop")
        known["stop"] = Stop(**{**_known(Stop, stop), "killed": tuple(stop.get("killed", ()))}) if stop is not None else None
        successor = known.get("successor")
        if successor is not None:
            successor = {**_known(Successor, successor), "began": tuple(successor.get("began", ()))}
        known["successor"] = Successor(**successor) if successor is not None else None
        for name in ("exits", "killed", "survivors", "steps", "began", "gap", "sockets"):
            known[name] = tuple(known.get(name, ()))
        return Record(**known)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def write_record(layout: ProjectLayout, record: Record) -> None:
    """Publish the record: whole for every reader, and not synced, since no power cut leaves it true."""
    # asdict() would copy every value, down to the strings, and each turn pays for the pages that this touches
    members = {name: vars(value) if is_dataclass(value) else value for name, value in vars(record).items()}
    standin.write_json(layout.record, {"schema": SCHEMA, **members}, is_void_after_boot=True)


def read_errand(layout: ProjectLayout, kind: str, about: int) -> Dict[str, Any]:
    """What the project's last errand has found so far, if it was this one, and no power cut tore it."""
    document = standin.read_json(layout.errand)
    if document is None or (document.get("kind"), document.get("about")) != (kind, about):
        return {}
    result: Dict[str, Any] = document["result"]
    return result


def write_errand(layout: ProjectLayout, kind: str, about: int, result: Dict[str, Any]) -> None:
    """What an errand has found so far."""
    standin.write_json(layout.errand, {"schema": SCHEMA, "kind": kind, "about": about, "result": result})


def needs_shim(want: Optional[Want], record: Optional[Record]) -> bool:
    """Whether something is left to do that only a shim can do."""
    if want is None:
        return False
    return record is None or record.generation != want.generation or not record.settled


def _known(kind: Any, document: Dict[str, Any]) -> Dict[str, Any]:
    return {name: value for name, value in document.items() if name in kind.__dataclass_fields__}
