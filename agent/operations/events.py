"""Events: what happens to the projects of this host, as it happens."""

from __future__ import annotations

from typing import Any, Callable, Dict

from agent.operations.agent import Agent
from agent.store.events import Events


def events(agent: Agent, last: str, wanted: Callable[[Dict[str, Any]], bool]) -> Events:
    """The stream, from the event after the id `last` on, if it is one."""
    return Events(agent.store, last, wanted)
