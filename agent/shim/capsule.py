"""What is left of a run that ended abnormally: enough to understand it, in one small file that outlives the output.

Written by the turn that learns of the end, so it costs the resident nothing. Of the environment the names are kept,
never a value.
"""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional, Tuple

from agent import SCHEMA
from agent.errors import ArtifactFault
from agent.host import cgroups, clock, files, procfs
from agent.model import ExitCause, Release, Signaled, cause_to_json
from agent.shim.environment import environment
from agent.shim.record import EXITS_KEPT, Record
from agent.store.layout import ProjectLayout
from agent.store.segments import crash_path, crash_runs, segment_name

_LINES = 100
_LINES_BYTES = 16 << 10

Position = Tuple[int, ...]
Origin = Dict[str, Any]


def write_capsule(layout: ProjectLayout, record: Record, origin: Origin, cause: ExitCause, end: Position) -> None:
    """`logs/crashes/run-<number>.json` for the run on record, whose end is among the record's already; the last ten are kept.

    `origin` is what `origin_of` said of its release, `end` the position of the next byte of output. A disk that refuses costs
    the capsule, never the project.
    """
    group = cgroups.usage(record.cgroup) if record.cgroup is not None else {}
    capsule = {
        "schema": SCHEMA,
        "project": record.project,
        "run": record.run,
        "version": record.version,
        "digest": origin["digest"],
        "started_at": record.started_at,
        "ended_at": clock.timestamp(),
        "exit_cause": cause_to_json(cause),
        "out_of_memory": _evidence(record, cause, group),
        "resources": _resources(record, group),
        "environment": origin["environment"],
        "last_lines": last_lines(layout, record.began, end),
        "restarts": record.restarts,
        "exits": list(record.exits),
    }
    try:
        files.make_directory(layout.crashes)
        files.write_json(crash_path(layout, record.run), capsule, durable=False)
        for number in crash_runs(layout)[:-EXITS_KEPT]:
            files.remove_if_present(crash_path(layout, number))
    except OSError as error:
        os.write(2, f"{layout.crashes}: {error.strerror}\n".encode())


def _evidence(record: Record, cause: ExitCause, group: Dict[str, int]) -> Dict[str, Any]:
    """Whether it was for memory: surely, if the kernel counted it in the run's own control group."""
    return {
        "killed": isinstance(cause, Signaled) and cause.oom,
        "kills_in_group": cgroups.oom_kills(record.cgroup) if record.cgroup is not None else None,
        "kills_on_host": max(0, procfs.oom_kills() - record.oom_kills),
        "limit_bytes": group.get("limit_bytes"),
    }


def _resources(record: Record, group: Dict[str, int]) -> Dict[str, Any]:
    """The group knows all processes; without one it is the largest process and the processor time of those that were waited
    for. None is what nobody was told, as after an adoption."""
    microseconds = group.get("cpu_microseconds")
    return {
        "peak_bytes": group.get("peak_bytes") or record.peak_bytes or None,
        "cpu_seconds": round(microseconds / 1e6, 3) if microseconds is not None else record.cpu_seconds,
    }


def origin_of(release: Optional[Release], layout: ProjectLayout) -> Origin:
    """`{"digest", "environment": [name, …]}` of a run of that release; it may be deleted before the run is over."""
    if release is None:
        return {"digest": None, "environment": []}
    try:
        names = sorted(environment(release, layout))
    except ArtifactFault:  # its user is gone from the host: that is why it did not start
        names = sorted(release.env)
    return {"digest": release.digest, "environment": names}


def last_lines(layout: ProjectLayout, begin: Position, end: Position) -> List[str]:
    """The last lines of output between two positions (segment, offset), as text; at most 100 and 16 KiB."""
    data, (number, offset) = b"", end
    first, least = begin or (number, 0)
    stop: Optional[int] = offset
    while number >= first and len(data) < _LINES_BYTES:
        data = _before(f"{layout.logs}/{segment_name(number)}", stop, least if number == first else 0, len(data)) + data
        number, stop = number - 1, None
    return [line.decode(errors="replace") for line in data.splitlines()[-_LINES:]]


def _before(path: str, stop: Optional[int], least: int, had: int) -> bytes:
    """What stands in a file before `stop` (its end), of which `had` bytes are not wanted; nothing where it is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        stop = os.fstat(fd).st_size if stop is None else stop
        begin = max(least, stop - _LINES_BYTES + had)
        return os.pread(fd, max(0, stop - begin), begin)
    finally:
        os.close(fd)
