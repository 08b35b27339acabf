"""History: what was done to a project and how its runs ended."""

from __future__ import annotations

from typing import Any, Dict

from agent.host import files
from agent.operations.agent import Agent


def history(agent: Agent, project: str) -> Dict[str, Any]:
    """`{"project", "history": [{"at", "event", …}]}`, oldest first. NotFound for an unknown project."""
    return {"project": project, "history": files.read_lines(agent.known(project).layout.history)}
