"""The canary: the project that a new agent launches to prove itself."""

from __future__ import annotations

from agent.operations.agent import Agent
from agent.operations.kill import kill

CANARY = "ant-host-agent-canary"


def clear(agent: Agent) -> None:
    """Remove the canary, also one that an agent which failed its proof left behind."""
    if agent.handle(CANARY).want() is not None:
        kill(agent, CANARY, 1.0, purge=True)
