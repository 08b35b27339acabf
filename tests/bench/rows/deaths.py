"""The agent killed, and upgraded, under steady requests: how many of these fail."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from typing import Callable, Dict, Iterator, List

from tests.bench.figure import Figure
from tests.bench.setting import FOREVER, Setting, checked, script, wait_until
from tests.support import bundles
from tests.support import http as calls
from tests.support.agent import AGENT, AgentHost

_CLIENTS, _PAUSE_SECONDS = 5, 0.01


def measure(setting: Setting) -> List[Figure]:
    """Five clients, a hundred requests a second each: every other a ping, every other a status with the key."""
    kills, upgrades = setting.times(20), setting.times(10)
    with setting.host() as host:
        checked(host.launch("steady", script(host, FOREVER)), 201)
        killed = _under_requests(host, lambda: _kill(host), kills)
        upgraded = _under_requests(host, lambda: _upgrade(host, setting), upgrades)
    return [
        Figure("kill -9 of the agent: connections refused, each", "requests", killed["refused"], goal="0"),
        Figure("kill -9 of the agent: lost in flight, each", "requests", killed["lost"], goal="≤ 1"),
        Figure("upgrade of the agent: requests failed, each", "requests", _sums(upgraded), goal="0"),
        Figure("requests during each upgrade", "requests", upgraded["asked"]),
    ]


def _sums(counted: Dict[str, List[int]]) -> List[int]:
    return [sum(both) for both in zip(counted["refused"], counted["lost"])]


def _kill(host: AgentHost) -> None:
    host.crash_agent()
    wait_until(host.is_answering, 60, 0.01)
    time.sleep(1)


def _upgrade(host: AgentHost, setting: Setting) -> None:
    name = f"bench-{time.monotonic_ns()}"
    checked(host.launch(AGENT, bundles.release(setting.pyz, host.base, name)), 201)


def _under_requests(host: AgentHost, event: Callable[[], None], times: int) -> Dict[str, List[int]]:
    counted: Dict[str, List[int]] = {"asked": [], "refused": [], "lost": []}
    with _clients(host) as counts:
        for _ in range(times):
            before = dict(counts)
            event()
            for kind, found in counted.items():
                found.append(counts[kind] - before[kind])
    return counted


@contextlib.contextmanager
def _clients(host: AgentHost) -> Iterator[Dict[str, int]]:
    counts = {"asked": 0, "refused": 0, "lost": 0}
    ended, lock = threading.Event(), threading.Lock()
    key = {"Authorization": f"Bearer {host.token}"}

    def ask() -> None:
        number = 0
        while not ended.wait(_PAUSE_SECONDS):
            number += 1
            outcome = "asked"
            try:
                path, headers = ("/ping", {}) if number % 2 else ("/project/steady", key)
                if calls.request(host.address, "GET", path, None, headers).status != 200:
                    outcome = "lost"
            except ConnectionRefusedError:
                outcome = "refused"
            except (OSError, http.client.HTTPException):
                outcome = "lost"
            with lock:
                counts["asked"] += 1
                counts[outcome] += outcome != "asked"

    threads = [threading.Thread(target=ask) for _ in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        ended.set()
        for thread in threads:
            thread.join()
