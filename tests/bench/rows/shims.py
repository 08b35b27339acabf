"""Shims: what each costs in memory when there are 100, beside an interpreter that does nothing."""

from __future__ import annotations

import contextlib
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import List

from tests.bench import kernel
from tests.bench.figure import Figure
from tests.bench.setting import FOREVER, Setting, checked, script
from tests.support.agent import AGENT, AgentHost

_SLEEPER = "import sys; print(flush=True); sys.stdin.read()"
_AT_ONCE = 12


def measure(setting: Setting) -> List[Figure]:
    """All are looked at once the last is ready; the agent and its own shim, too."""
    count = 20 if setting.quick else 100
    projects = [f"small-{number}" for number in range(count)]
    with setting.host() as host:
        path = script(host, "echo started\n" + FOREVER)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda project: checked(host.launch(project, path), 201), projects))
        pids = [host.shim_pid(project) for project in projects]
        pss = [kernel.pss_bytes(pid) / 1e6 for pid in pids]
        private = [kernel.private_bytes(pid) / 1e6 for pid in pids]
        agent = [kernel.pss_bytes(host.agent_pid) / 1e6]
        own = [kernel.pss_bytes(host.shim_pid(AGENT)) / 1e6]
        bare = idle_interpreters(setting.python, 10)
        _end_all(host, projects)
    return [
        Figure(f"PSS of a shim, at {count}", "MB", pss, bare, "each of 10 idle python3 -I -S", "≤ 1 MB"),
        Figure(f"private pages of a shim, at {count}", "MB", private),
        Figure(f"PSS of the agent's shim, at {count}", "MB", own, bare, "each of 10 idle python3 -I -S"),
        Figure(f"PSS of the agent, at {count}", "MB", agent),
    ]


def idle_interpreters(python: str, count: int) -> List[float]:
    with contextlib.ExitStack() as stack:
        started = []
        for _ in range(count):
            command = [python, "-I", "-S", "-c", _SLEEPER]
            process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            assert process.stdout is not None
            process.stdout.readline()
            started.append(process)
        return [kernel.pss_bytes(process.pid) / 1e6 for process in started]


def _end_all(host: AgentHost, projects: List[str]) -> None:
    """Four at a time: that many kills have room."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda project: checked(host.kill(project, grace_seconds=0), 200), projects))
