"""Events: what happens to the projects of this host, as it happens."""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional

from agent.operations.agent import Agent
from agent.store.events import Events


def events(agent: Agent, project: Optional[str], last: str, wanted: Callable[[Dict[str, Any]], bool]) -> Events:
    """The stream, from the event after the id `last` on, if it is one. NotFound for a `project` that is not here."""
    if project is not None:
        agent.known(project)
    return Events(agent.store, last, wanted)
