"""Idle: what the agent and its shim take on a host without projects, in memory and in processor time."""

from __future__ import annotations

import time
from typing import List

from tests.bench import kernel
from tests.bench.figure import Figure
from tests.bench.rows.shims import idle_interpreters
from tests.bench.setting import Setting
from tests.support.agent import AGENT


def measure(setting: Setting) -> List[Figure]:
    """After one call, so that what is loaded late is there; the processor time over a few reconcile scans."""
    seconds = 5 if setting.quick else 20
    with setting.host() as host:
        host.projects()
        pids = {"agent": host.agent_pid, "agent's shim": host.shim_pid(AGENT)}
        before = kernel.spent(pids.values())
        time.sleep(seconds)
        spent = (kernel.spent(pids.values()) - before) / seconds
        pss = {who: [kernel.pss_bytes(pid) / 1e6] for who, pid in pids.items()}
        bare = idle_interpreters(setting.python, 1)
    figures = [Figure(f"PSS of the {who}", "MB", values, bare, "one idle python3 -I -S") for who, values in pss.items()]
    return [
        *figures,
        Figure(f"processor time of both, over {seconds} s", "ms/s", [spent.milliseconds]),
        Figure(f"wake-ups of both, over {seconds} s", "1/s", [spent.wakeups], note="the row scale has 1000 projects"),
    ]
