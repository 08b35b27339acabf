"""Restart: the release that runs, stopped and started again under a new generation."""

from __future__ import annotations

from typing import Any, Dict, Tuple

from agent.errors import Conflict
from agent.operations.agent import Agent, changing, volatile_warnings
from agent.operations.outcome import start
from agent.store import releases


def restart(agent: Agent, project: str, by: str) -> Tuple[int, Dict[str, Any]]:
    """Stop and start the current release; also what brings a killed project back. NotFound, Conflict, ArtifactFault."""
    version = releases.current(agent.known(project).layout)
    if version is None:
        raise Conflict(f"{project} has no release that ever became ready.", "Launch one.", project=project)
    return start_again(agent, project, version, "restart", by)


def start_again(agent: Agent, project: str, version: str, event: str, by: str) -> Tuple[int, Dict[str, Any]]:
    """Run a release that is in the store already; the current one is what a failure goes back to."""
    handle = agent.known(project)
    with changing(handle, event, by):
        replaced = releases.current(handle.layout)
        record = start(agent, project, version, replaced, by, event)
    warnings = volatile_warnings(handle)
    return 200, {
        **({"warnings": warnings} if warnings else {}),
        "status": "Successful", "project": project, "version": version, "replaced": replaced, "pid": record.pid,
        "state": record.state,
    }  # fmt: skip
