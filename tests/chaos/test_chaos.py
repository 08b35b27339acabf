"""Clients that call all at once while something goes wrong: no lie, no lost line, nothing left over.

ANT_CHAOS_CALLS (a client) and ANT_CHAOS_SEED choose how long and which. It is slow, so CI runs it with ANT_SLOW=1 only.
"""

from __future__ import annotations

from typing import Iterator

import pytest

from tests.chaos.clients import supply
from tests.chaos.disturbances import Killer
from tests.chaos.scenario import SEED, play
from tests.support.agent import AgentHost

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.newest]


@pytest.fixture
def chaos_host(pyz: str, python: str) -> Iterator[AgentHost]:
    with AgentHost(pyz, python) as host:
        yield host


@pytest.mark.parametrize("has_agents", [False, True], ids=["kills", "kills-and-upgrades"])
def test_our_own_processes_are_killed(chaos_host: AgentHost, pyz: str, has_agents: bool) -> None:
    play(chaos_host, supply(chaos_host, pyz, has_agents), [Killer(chaos_host, SEED)], SEED)
