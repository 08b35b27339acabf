"""The canary: the project that a new agent launches to prove itself."""

from __future__ import annotations

import contextlib

from agent.errors import Conflict, NotFound
from agent.operations.agent import Agent
from agent.operations.kill import kill

CANARY = "ant-host-agent-canary"


def clear(agent: Agent) -> None:
    """Remove the canary, also one that an agent which failed its proof left behind. Whoever is at it already is left to it."""
    if agent.handle(CANARY).want() is not None:
        with contextlib.suppress(Conflict, NotFound):
            kill(agent, CANARY, 1.0, purge=True)
