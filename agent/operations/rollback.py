"""Rollback: a launch of an older release that is still in the store."""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

from agent.errors import Conflict, NotFound
from agent.model import AGENT_PROJECT
from agent.operations import own
from agent.operations.agent import Agent
from agent.operations.restart import start_again
from agent.store import releases
from agent.store.layout import ProjectLayout


def rollback(agent: Agent, project: str, version: Optional[str], by: str) -> Tuple[int, Dict[str, Any]]:
    """Run `version`, or the newest release that is older than the current one and not in quarantine."""
    return start_again(agent, project, lambda layout: _choose(layout, version), "rollback", by)


def _choose(layout: ProjectLayout, version: Optional[str]) -> str:
    project = layout.project
    kept = releases.versions(layout)
    current = releases.current(layout)
    if version is None:
        older = kept[: kept.index(current)] if current in kept else kept
        if project == AGENT_PROJECT:
            older = [version for version in older if version not in own.quarantined_versions(layout.store)]
        if not older:
            raise Conflict(
                f"{project} has no release older than {current}.",
                "GET /project/<id>/history shows what ran.",
                project=project,
            )
        version = older[-1]
    if version not in kept:
        raise NotFound(
            f"{project} has no release {version} on this host.",
            f"It has: {', '.join(kept) or 'none'}.",
            project=project,
        )
    return version
