"""Whatever of the agent dies or is replaced, its callers do not notice: 500 calls a second from eight clients of all kinds."""

from __future__ import annotations

import os
import random
import sys
from typing import Any, Callable, Dict, Iterator, List

import pytest

from tests.support import artifact, bundles, processes
from tests.support.agent import AGENT, AgentHost
from tests.support.callers import Callers, Failure
from tests.support.processes import Process
from tests.support.wait import eventually

pytestmark = pytest.mark.e2e

SHORT = ("new", "ping", "kept", "kept_ping", "idle")


class Trouble:
    """What can happen to an agent, each until the agent is whole again."""

    def __init__(self, host: AgentHost, pyz: str) -> None:
        self._host = host
        self._releases = [bundles.release(pyz, host.artifacts, name) for name in ("even", "odd")]
        self._next = 0

    def kill_agent(self) -> None:
        before = self._host.agent
        processes.kill_hard(before)
        self._await(lambda: self._record()["pid"] not in (None, before.pid))

    def kill_shim(self) -> None:
        before = self._host.shim(AGENT)
        processes.kill_hard(before)
        self._await(lambda: self._record()["shim"]["pid"] != before.pid)

    def upgrade(self) -> None:
        """A new agent, and the shim executed into its release."""
        self._next += 1
        shim = self._host.shim(AGENT)
        reply = self._host.launch(AGENT, self._releases[self._next % 2])
        assert reply.status == 201, reply.json
        self._await(lambda: self._runs(shim, reply.json["version"]))

    def restart(self) -> None:
        """A new agent of the same release."""
        reply = self._host.request("POST", f"/project/{AGENT}/restart")
        assert reply.status == 200, reply.json
        self._await(lambda: True)

    def _runs(self, shim: Process, version: str) -> bool:
        now = processes.look(shim.pid)
        return now is not None and version in now.command

    def _record(self) -> Dict[str, Any]:
        return self._host.record(AGENT)

    def _await(self, is_over: Callable[[], bool]) -> None:
        def is_whole() -> bool:
            record = self._record()
            return bool(is_over() and record["state"] == "ready" and record["successor"] is None and self._host.is_answering())

        eventually(is_whole, 60, lambda: f"the agent is whole again: {self._record()}")


@pytest.fixture
def loaded(pyz: str) -> Iterator[AgentHost]:
    """An agent of its own on the default Python."""
    with AgentHost(pyz, os.path.realpath(sys.executable)) as agent_host:
        yield agent_host


def callers(host: AgentHost) -> Callers:
    """The eight clients; `hello` and `slow` run already."""
    path = artifact.pack("hello", host.artifacts)
    assert host.launch("hello", path).status == 201
    assert host.launch_fixture("slow", "slow_ready", env={"READY_AFTER_SECONDS": "1.5"}).status == 201
    return Callers(host, "hello", "slow", path)


def unexpected(callers: Callers) -> List[Failure]:
    """What no death of an agent explains: a connection that was refused, an answer that was not 200."""
    return [failure for failure in callers.outcomes.failures if failure not in callers.outcomes.of("lost", "stale")]


def at_most_one_lost_by_each_client(outcomes: Callers, kills: int) -> None:
    """A kill takes what was in flight with it, one call of each client, and nothing else."""
    for client in (*SHORT, "slow", "upload"):
        clients = 2 if client == "new" else 1
        found = [failure for failure in outcomes.outcomes.of("lost", "stale") if failure[0] == client]
        assert len(found) <= kills * clients, str(outcomes.outcomes)


@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_9_of_the_agent(loaded: AgentHost, pyz: str, count: int) -> None:
    trouble = Trouble(loaded, pyz)
    with callers(loaded) as clients:
        for _ in range(count):
            trouble.kill_agent()
    print(clients.outcomes)
    assert unexpected(clients) == []
    at_most_one_lost_by_each_client(clients, count)


@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_9_of_its_shim(loaded: AgentHost, pyz: str, count: int) -> None:
    trouble = Trouble(loaded, pyz)
    with callers(loaded) as clients:
        for _ in range(count):
            trouble.kill_shim()
    print(clients.outcomes)
    assert clients.outcomes.failures == []


@pytest.mark.parametrize("count", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_upgrade_and_execution_of_the_shim(loaded: AgentHost, pyz: str, count: int) -> None:
    trouble = Trouble(loaded, pyz)
    with callers(loaded) as clients:
        for _ in range(count):
            trouble.upgrade()
    print(clients.outcomes)
    # a client that was idle for longer than the old agent waits for it finds its connection closed, and uses another
    stale = clients.outcomes.of("stale")
    assert [failure for failure in clients.outcomes.failures if failure[0] != "idle" or failure not in stale] == []


@pytest.mark.slow
def test_all_of_it_at_random(loaded: AgentHost, pyz: str) -> None:
    trouble, chance = Trouble(loaded, pyz), random.Random(3)
    acts = [trouble.kill_agent, trouble.kill_shim, trouble.upgrade, trouble.restart]
    with callers(loaded) as clients:
        for _ in range(50):
            chance.choice(acts)()
    print(clients.outcomes)
    assert unexpected(clients) == []
    at_most_one_lost_by_each_client(clients, 50)
