"""Status: what a project is, why, and what happens next; from the store and the kernel alone."""

from __future__ import annotations

import time
from typing import Any, Dict, List, Optional

from agent.host import clock, drafts, files, procfs
from agent.host.usage import Processes
from agent.model import AGENT_PROJECT
from agent.operations import own
from agent.operations.agent import Agent, unknown
from agent.shim import machine
from agent.shim.handle import Handle
from agent.shim.record import Record, Want, needs_shim, read_errand
from agent.store.layout import ProjectLayout
from agent.store.segments import crash_path, crash_runs, log_bytes

#: Without a readiness of its own, a run is ready once it has been alive for this long (shim/launching.py).
_READY_SECONDS = 1.0
_IN_A_CRASH_LIST = ("run", "version", "ended_at", "exit_cause", "out_of_memory", "resources")


def describe(agent: Agent, project: str) -> Dict[str, Any]:
    """One project's status with its crashes; the agent's own also names what is in quarantine. NotFound for an unknown one."""
    handle = agent.handle(project)
    found = _found(handle)
    if found is None:
        raise unknown(project)
    status = {**found, **_crashes(handle.layout)}
    if project == AGENT_PROJECT:
        status["quarantine"] = own.quarantined(agent.store)
    return status


def running(handle: Handle) -> Optional[Dict[str, Any]]:
    """What of the project is at work at this moment, as a failed launch tells it."""
    record = handle.record()
    if record is None or record.pid is None or record.state not in machine.ALIVE:
        return None
    return {"version": record.version, "pid": record.pid, "state": record.state}


def describe_all(agent: Agent) -> Dict[str, Any]:
    """`{"projects": [status, …]}`, by name."""
    processes = Processes()
    found = (_found(agent.handle(project), processes) for project in files.names(agent.store.projects))
    return {"projects": [status for status in found if status is not None]}


def _found(handle: Handle, processes: Optional[Processes] = None) -> Optional[Dict[str, Any]]:
    """The status, None of a project that is not here. One whose files a disk or the project itself has spoiled hides no other."""
    project = handle.layout.project
    try:
        want = handle.want()
        return _status(handle, want, handle.record() or Record(project), processes) if want is not None else None
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        why = f"its want.json, record.json or release in {handle.layout.root} can't be understood: {error}"
        return _status(handle, None, Record(project, explanation=why), processes)


def _status(handle: Handle, want: Optional[Want], record: Record, processes: Optional[Processes]) -> Dict[str, Any]:
    """`processes` are those of the host, where this is one project of many."""
    # the document itself: making a Release of it would take longer than all the rest
    release = (drafts.read(handle.layout.release_json(record.version)) if record.version else None) or {}
    is_alive = handle.is_alive
    status: Dict[str, Any] = {
        "project": handle.layout.project,
        "want": "up" if want is not None and want.up else "down",
        "state": record.state,
        "since": record.since,
        "explanation": record.explanation,
        "next": _next(record, release),
        "version": record.version,
        "digest": release.get("digest"),
        "pid": record.pid,
        "started_at": record.started_at if record.pid else None,
        "uptime_seconds": _uptime_seconds(record),
        **_use(record, is_alive, processes),
        "log_bytes": log_bytes(handle.layout.logs),
        "run": record.run,
        "restarts": record.restarts,
        "next_start_at": record.next_start_at,
        "exit_cause": record.exits[-1]["exit_cause"] if record.exits else None,
        "exits": list(record.exits),
        "readiness": read_errand(handle.layout, "probe", record.run).get("failure") if record.state == machine.RUNNING else None,
        "shim_pid": record.shim["pid"] if record.shim and is_alive else None,
        "warnings": list(release.get("warnings", ())),
    }
    correction = _correction(handle, want, record, is_alive, processes)
    if correction is not None:
        status.update(correction)
    return status


def _use(record: Record, is_alive: bool, processes: Optional[Processes]) -> Dict[str, Any]:
    """What the run uses now, nothing of it where nothing runs: the child's tree, and what came back to the shim."""
    if not is_alive or record.pid is None or record.shim is None:
        return {"cpu_seconds": None, "memory_bytes": None, "processes": None}
    shims = [record.shim["pid"]] if record.project != AGENT_PROJECT else []
    processes = processes or Processes([record.pid, *shims])
    used = processes.use([record.pid, *(pid for shim in shims for pid in processes.below(shim))])
    return {
        "cpu_seconds": round(used.cpu_seconds + record.cpu_seconds, 2), "memory_bytes": used.memory_bytes,
        "processes": used.processes,
    }  # fmt: skip


def _next(record: Record, release: Dict[str, Any]) -> Optional[Dict[str, str]]:
    """What happens next without anybody's doing, and when: `{"action", "at"}`; None where nothing will."""
    if record.state == machine.BACKOFF and record.next_start_at is not None:
        return {"action": "start", "at": record.next_start_at}
    if record.state == machine.STOPPING and record.stop is not None:
        return {"action": "SIGKILL", "at": _on_the_wall(record.stop.deadline)}
    readiness = release.get("readiness")
    if record.state == machine.RUNNING and readiness:
        return {"action": "give up unless ready", "at": _on_the_wall(record.started_clock + readiness["timeout_seconds"])}
    if record.state == machine.RUNNING:
        return {"action": "call it ready", "at": _on_the_wall(record.started_clock + _READY_SECONDS)}
    return None


def _on_the_wall(monotonic: float) -> str:
    return clock.timestamp(time.time() + monotonic - time.monotonic())


def _uptime_seconds(record: Record) -> Optional[float]:
    if record.pid is None or record.started_at is None:
        return None
    return round(max(0.0, time.time() - clock.from_timestamp(record.started_at)), 1)


def _correction(
    handle: Handle, want: Optional[Want], record: Record, is_alive: bool, processes: Optional[Processes]
) -> Optional[Dict[str, Any]]:  # fmt: skip
    """What the record can't know, because no shim lives to write it, or has not come to it yet: a reboot, a killed shim, a dead
    child."""
    is_of_another_boot = record.state in machine.ALIVE and record.boot_id not in ("", procfs.boot_id())
    lives = not is_of_another_boot and record.pid is not None and _lives(record.pid, record.start_time or 0, processes)
    if not is_of_another_boot and (is_alive or not needs_shim(want, record)):
        if lives or record.ended is not None or record.state not in (machine.RUNNING, machine.READY):
            return None
        explanation = "it has just ended; its shim is about to say how, and what follows"
    elif lives and record.state in machine.ALIVE:
        return {"explanation": f"{record.state}; its shim died and is being replaced"}
    else:
        explanation = "not running: the host or its shim went down; a new shim takes over within seconds"
    return {
        "state": machine.EXITED, "pid": None, "started_at": None, "uptime_seconds": None, "next": None,
        "explanation": explanation,
    }  # fmt: skip


def _lives(pid: int, start_time: int, processes: Optional[Processes]) -> bool:
    """Whether that process is there: those that were looked at for all projects at once may be older than it."""
    return processes is not None and processes.has(pid, start_time) or procfs.is_alive(pid, start_time)


def _crashes(layout: ProjectLayout) -> Dict[str, Any]:
    """`crash`, the capsule of the last abnormal end, and `crashes`, what the last ones were, oldest first."""
    found = (files.read_json_if_whole(crash_path(layout, run)) for run in crash_runs(layout))
    capsules: List[Dict[str, Any]] = [capsule for capsule in found if capsule is not None]
    brief = [{name: capsule.get(name) for name in _IN_A_CRASH_LIST} for capsule in capsules]
    return {"crash": capsules[-1] if capsules else None, "crashes": brief}
