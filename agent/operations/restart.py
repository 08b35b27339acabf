"""Restart: the release that runs, stopped and started again under a new generation."""

from __future__ import annotations

from typing import Any, Callable, Dict, Tuple

from agent.errors import Conflict
from agent.operations.agent import Agent, changing, volatile_warnings
from agent.operations.outcome import conclude_later_if_need_be, start
from agent.store import releases
from agent.store.layout import ProjectLayout


def restart(agent: Agent, project: str, by: str) -> Tuple[int, Dict[str, Any]]:
    """Stop and start the current release; also what brings a killed project back. NotFound, Conflict, ArtifactFault."""
    return start_again(agent, project, _current, "restart", by)


def _current(layout: ProjectLayout) -> str:
    version = releases.current(layout)
    if version is None:
        raise Conflict(f"{layout.project} has no release that ever became ready.", "Launch one.", project=layout.project)
    return version


def start_again(
    agent: Agent, project: str, choose: Callable[[ProjectLayout], str], event: str, by: str
) -> Tuple[int, Dict[str, Any]]:  # fmt: skip
    """Run a release that is in the store already; the current one is what a failure goes back to.

    Which one, `choose` says when no other call can change the project any more, and its last launch is concluded.
    """
    with changing(agent.known(project), event, by):
        handle = agent.known(project)  # another call may have purged it meanwhile
        conclude_later_if_need_be(agent, handle)
        version, replaced = choose(handle.layout), releases.current(handle.layout)
        record = start(agent, project, version, replaced, by, event)
    warnings = volatile_warnings(handle)
    return 200, {
        **({"warnings": warnings} if warnings else {}),
        "status": "Successful", "project": project, "version": version, "replaced": replaced, "pid": record.pid,
        "state": record.state,
    }  # fmt: skip
