"""What is run as the first process of a namespace of its own, where anybody may choose the pid of the next process.

`python -m tests.chaos.strangers PYZ PYTHON SEED [CALLS]`, the latter for a brief one: pids of processes of ours that died are
given to strangers, and no stranger may ever get a signal from us (pid_namespaces(7), /proc/sys/kernel/ns_last_pid in proc(5)).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import Dict, List

from tests.chaos.clients import supply
from tests.chaos.disturbances import STRIKES, Disturbance, Killer, Strikes
from tests.chaos.scenario import CALLS, play
from tests.support import processes
from tests.support.agent import AgentHost
from tests.support.processes import Process
from tests.support.wait import eventually

_LAST_PID = "/proc/sys/kernel/ns_last_pid"
_MOST = 50


def stranger(pid: int) -> subprocess.Popen[bytes]:
    """A process that has nothing to do with us, which any signal of ours would end; with this pid, if nobody was faster."""
    with open(_LAST_PID, "w", encoding="ascii") as file:
        file.write(str(pid - 1))
    return subprocess.Popen(["sleep", "100000"], stdin=subprocess.DEVNULL, env={}, cwd="/")


class Strangers(Disturbance):
    """They move in where processes of ours have died."""

    pauses = (0.0, 0.05)

    def __init__(self, host: AgentHost, seed: int) -> None:
        super().__init__(host, seed)
        self.there: List[subprocess.Popen[bytes]] = []
        self.hits = 0
        self._seen: Dict[int, Process] = {}

    def disturb(self) -> None:
        now = {process.pid: process for process in self.host.processes()}
        free = [pid for pid in self._seen if pid not in now and not os.path.exists(f"/proc/{pid}")]
        self._seen.update(now)
        if free and len(self.there) < _MOST:
            pid = self.random.choice(free)
            self.there.append(stranger(pid))
            self.hits += self.there[-1].pid == pid
            self.tell(f"a stranger is {self.there[-1].pid}, in the place of {self._seen.pop(pid)}")

    def leave(self) -> None:
        """AssertionError if one of them is gone already."""
        ended = {process.pid: process.poll() for process in self.there if process.poll() is not None}
        for process in self.there:
            process.kill()
            process.wait()
        assert not ended, f"strangers were ended: {ended}\n" + "\n".join(self.done)


def move_in_while_nobody_looks(host: AgentHost) -> None:
    """The agent is stopped, project and shim end, and strangers get their very pids before it is started again."""
    assert host.launch_fixture("web", "hello").status == 201
    before = host.status("web")["pid"], host.shim_pid("web")
    assert host.stop() == 0
    for pid in reversed(before):
        victim = processes.look(pid)
        if victim is not None:
            processes.kill_hard(victim)
        eventually(lambda pid=pid: not os.path.exists(f"/proc/{pid}"), 30, f"{pid} is reaped")  # type: ignore[misc]
    strangers = []
    try:
        for pid in before:
            strangers.append(stranger(pid))
            assert strangers[-1].pid == pid
        host.start()
        eventually(lambda: host.status("web")["pid"] not in (None, *before), 30, "a run of its own")
        host.wait_for_state("web", "ready", deadline_seconds=30)
        assert host.kill("web").json["status"] == "Successful"
        assert host.project_processes("web") == []
        assert [process.poll() for process in strangers] == [None, None]
    finally:
        for process in strangers:
            process.kill()
            process.wait()


def main() -> None:
    """Both, one after the other."""
    pyz, python, seed, *calls = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
    with AgentHost(pyz, python) as host:
        move_in_while_nobody_looks(host)
    with AgentHost(pyz, python) as host:
        strangers = Strangers(host, seed)
        killer = Strikes(host, seed, STRIKES) if calls else Killer(host, seed)
        with contextlib.ExitStack() as after:
            after.callback(strangers.leave)
            play(host, supply(host, pyz, False), [strangers, killer], seed, calls=[*calls, CALLS][0])
        assert strangers.hits > 0, "no stranger ever got the pid that it was to have"
        print(f"{strangers.hits} of {len(strangers.there)} strangers were somebody of ours before")


if __name__ == "__main__":
    main()
