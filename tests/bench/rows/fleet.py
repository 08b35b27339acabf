"""Fleet: two hundred agents on one machine, each a host of its own, called by one client."""

from __future__ import annotations

import contextlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import List, Set

from tests.bench import kernel
from tests.bench.figure import Figure
from tests.bench.setting import FOREVER, Setting, script
from tests.support import http
from tests.support.agent import AGENT, AgentHost


def measure(setting: Setting) -> List[Figure]:
    """The command line's `--hosts-file`, which calls sixteen at a time; every host has a store and a key of its own."""
    count = 10 if setting.quick else 200
    with contextlib.ExitStack() as stack:
        with ThreadPoolExecutor(4) as pool:
            hosts = list(pool.map(lambda _: setting.host(), range(count)))
            for host, port in zip(hosts, _free_ports(count)):
                host.address = (host.address[0], port)
            started = time.monotonic()
            list(pool.map(lambda host: _start(stack, host), hosts))
            boot = time.monotonic() - started
        first = hosts[0]
        names = f"{first.base}/hosts"
        with open(names, "w", encoding="utf-8") as file:
            file.writelines("{}:{} {}/token\n".format(*host.address, host.store) for host in hosts)
        artifact = script(first, "echo up\n" + FOREVER)
        figures = [Figure(f"{count} agents started, 4 at a time", "s", [boot])]
        for what, words in (
            ("ping", ["ping"]), ("launch", ["launch", "fleet", artifact]), ("status", ["status", "fleet"]),
            ("kill", ["kill", "fleet", "--grace-seconds", "0"]),
        ):  # fmt: skip
            taken = [_call(first, names, count, words) for _ in range(1 if what in ("launch", "kill") else setting.times(5))]
            figures.append(Figure(f"{what} of {count} hosts by one client", "s", taken))
        agents = [kernel.pss_bytes(host.agent_pid) / 1e6 for host in hosts]
        shims = [kernel.pss_bytes(host.shim_pid(AGENT)) / 1e6 for host in hosts]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda host: host.close(), hosts))
        stack.pop_all()
    return [*figures, Figure(f"PSS of an agent, at {count}", "MB", agents), Figure(f"PSS of its shim, at {count}", "MB", shims)]


def _free_ports(count: int) -> Set[int]:
    """All of them another: each host takes its own only when it is started."""
    ports: Set[int] = set()
    while len(ports) < count:
        ports.add(http.free_port())
    return ports


def _start(stack: contextlib.ExitStack, host: AgentHost) -> None:
    stack.callback(host.close)
    host.start()


def _call(first: AgentHost, names: str, count: int, words: List[str]) -> float:
    """Seconds of one command for all hosts, the client's own start included. AssertionError unless all of them did it."""
    started = time.monotonic()
    ran = first.run(*words, "--hosts-file", names, "--json", timeout_seconds=600)
    taken = time.monotonic() - started
    said = json.loads(ran.stdout)["hosts"]
    failed = [entry for entry in said if entry["exit_code"]]
    assert len(said) == count and not failed, failed[:3]
    return taken
