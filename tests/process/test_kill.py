"""The kill ladder: stop signal → grace period → SIGKILL → an empty tree, whatever the tree does against it."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.host import cgroups
from agent.model import StopPolicy
from agent.operations.kill import kill
from agent.shim.record import draft_want

IGNORES = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(1000)"

FORKS = """
import os, signal, time
for depth in range(3):
    if os.fork() == 0:
        continue
    break
print("pid", os.getpid(), flush=True)
time.sleep(1000)
"""

ESCAPES = """
import os, signal, time
for n in range(5):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("pid", os.getpid(), flush=True)
            os.closerange(0, 3)
            time.sleep(1000)
        os._exit(0)
time.sleep(1000)
"""

LEAVES = """
import os, signal, time
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.execve("/bin/sleep", ["sleep", "1000"], {})
print("leader", os.getpid(), flush=True)
"""

BOMB = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
import time
time.sleep(1.1)
for _ in range(150):
    if os.fork() == 0:
        while True:
            pid = os.fork()
            if pid == 0: time.sleep(0.002)
            else: os._exit(0)
time.sleep(1000)
"""


@pytest.fixture(params=["cgroup", "no cgroup"])
def groups(request: Any, monkeypatch: Any) -> str:
    """With a control group where the host has one, and without."""
    if request.param == "no cgroup":
        monkeypatch.setattr(cgroups, "create", lambda name, settings=None: None)
    return str(request.param)


def _killed(record: Any) -> dict[int, str]:
    return {entry["pid"]: entry["signal"] for entry in record.killed}


def test_a_process_that_ignores_the_stop_signal_is_killed_after_the_grace_period(groups: str, shims: Any) -> None:
    pid = shims.run("stubborn", IGNORES).pid
    assert _killed(shims.down("stubborn")) == {pid: "SIGKILL"}


def test_a_process_that_listens_gets_only_the_stop_signal(groups: str, shims: Any) -> None:
    pid = shims.run("polite", "import time; time.sleep(1000)", stop=StopPolicy("SIGINT", 5)).pid
    assert _killed(shims.down("polite")) == {pid: "SIGINT"}


def test_every_generation_of_a_tree_is_listed(groups: str, shims: Any) -> None:
    shims.run("family", FORKS)
    shims.await_output("family", b"pid")
    assert len(_killed(shims.down("family"))) == 4
    assert shims.leftovers() == []


def test_double_forked_daemons_in_their_own_sessions_do_not_escape(groups: str, shims: Any) -> None:
    shims.run("escapees", ESCAPES)
    record = shims.down("escapees")
    pids = [int(line.split()[1]) for line in shims.output("escapees").splitlines()]
    assert len(pids) == 5 and set(pids) <= _killed(record).keys()
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_what_a_leader_left_at_work_is_the_project(groups: str, shims: Any) -> None:
    record = shims.run("leaves", LEAVES)
    assert "left 1 at work" in record.explanation or record.state == "ready"
    killed = shims.down("leaves").killed
    assert [entry["command"] for entry in killed] == ["sleep 1000"]
    assert not os.path.exists(f"/proc/{killed[0]['pid']}")


def test_a_tree_that_forks_all_the_time_ends(groups: str, shims: Any) -> None:
    shims.run("bomb", BOMB)
    record = shims.down("bomb")
    assert record.state == "exited" and record.survivors == ()
    assert shims.leftovers() == []


def test_what_a_crashed_leader_left_behind_is_cleared_before_the_next_run(shims: Any) -> None:
    script = "import os, time\nif os.fork() == 0: time.sleep(1000)\ntime.sleep(1.2)\nos._exit(9)"
    shims.run("crash", script)
    record = shims.handle("crash").wait(lambda r: r.restarts >= 1 and r.pid, 60)
    assert record is not None and record.exits[-1]["exit_cause"]["code"] == 9
    assert len(shims.leftovers()) <= 2


def test_what_is_down_already_stays_down_after_a_power_cut_too(shims: Any) -> None:
    """The call that killed it died before its wish was safe; the next one finds nothing to kill, and promises as much."""
    record, handle = shims.run("web", IGNORES), shims.handle("web")
    draft_want(handle.layout, replace(handle.want(), up=False, generation=record.generation + 1))
    handle.see_to_it()
    assert handle.wait(lambda record: record.settled and record.state == "exited", 60)
    assert json.loads(Path(handle.layout.want).read_text())["want"] == "up"
    assert kill(shims.agent, "web")["status"] == "NothingToKill"
    assert json.loads(Path(handle.layout.want).read_text())["want"] == "down"


def test_a_project_that_stops_its_own_shim_is_killed(shims: Any) -> None:
    os.kill(shims.run("web", IGNORES).shim["pid"], signal.SIGSTOP)
    assert shims.down("web").state == "exited"
