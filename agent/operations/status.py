"""Status: what a project is, why, and what happens next; from the store and the kernel alone."""

from __future__ import annotations

import time
from typing import Any, Dict, Optional

from agent.host import clock, procfs
from agent.model import AGENT_PROJECT
from agent.operations import own
from agent.operations.agent import Agent
from agent.shim import machine
from agent.shim.handle import Handle
from agent.shim.record import Record, Want, needs_shim, read_errand
from agent.store import releases


def describe(agent: Agent, project: str) -> Dict[str, Any]:
    """One project's status; the agent's own also names what is in quarantine. NotFound for an unknown one."""
    status = _status(agent.known(project))
    if project == AGENT_PROJECT:
        status["quarantine"] = own.quarantined(agent.store)
    return status


def describe_all(agent: Agent) -> Dict[str, Any]:
    """`{"projects": [status, …]}`, by name."""
    return {"projects": [_status(agent.handle(project)) for project in agent.projects()]}


def _status(handle: Handle) -> Dict[str, Any]:
    want, record = handle.want(), handle.record() or Record(handle.layout.project)
    release = releases.read(handle.layout, record.version) if record.version else None
    status: Dict[str, Any] = {
        "project": handle.layout.project,
        "want": "up" if want is not None and want.up else "down",
        "state": record.state,
        "since": record.since,
        "explanation": record.explanation,
        "version": record.version,
        "digest": release.digest if release else None,
        "pid": record.pid,
        "started_at": record.started_at if record.pid else None,
        "uptime_seconds": _uptime_seconds(record),
        "run": record.run,
        "restarts": record.restarts,
        "next_start_at": record.next_start_at,
        "exit_cause": record.exits[-1]["exit_cause"] if record.exits else None,
        "exits": list(record.exits),
        "readiness": read_errand(handle.layout, "probe", record.run).get("failure") if record.state == machine.RUNNING else None,
        "shim_pid": record.shim["pid"] if record.shim and handle.is_alive else None,
        "warnings": list(release.warnings) if release else [],
    }
    correction = _correction(handle, want, record)
    if correction is not None:
        status.update(correction)
    return status


def _uptime_seconds(record: Record) -> Optional[float]:
    if record.pid is None or record.started_at is None:
        return None
    return round(max(0.0, time.time() - clock.from_timestamp(record.started_at)), 1)


def _correction(handle: Handle, want: Optional[Want], record: Record) -> Optional[Dict[str, Any]]:
    """What the record can't know, because no shim lives to write it: a reboot, a killed shim, a dead child."""
    if handle.is_alive or not needs_shim(want, record):
        return None
    lives = record.boot_id == procfs.boot_id() and record.pid is not None and procfs.is_alive(record.pid, record.start_time or 0)
    if lives and record.state in machine.ALIVE:
        return {"explanation": f"{record.state}; its shim died and is being replaced"}
    return {
        "state": machine.EXITED, "pid": None, "started_at": None, "uptime_seconds": None,
        "explanation": "not running: the host or its shim went down; a new shim takes over within seconds",
    }  # fmt: skip
