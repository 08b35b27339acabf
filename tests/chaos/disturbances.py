"""What goes wrong beside the clients: each is a thread that goes on until it is told to end, and tells what it did."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from typing import List

from tests.support import processes
from tests.support.agent import AGENT, AgentHost
from tests.support.clock import jump
from tests.support.disk import SmallDisk
from tests.support.processes import Process


class Disturbance(threading.Thread):
    """Does something again and again, after pauses of so many seconds."""

    pauses = (0.2, 1.0)

    def __init__(self, host: AgentHost, seed: int) -> None:
        super().__init__(daemon=True)
        self.done: List[str] = []
        self.host, self.over = host, threading.Event()
        self.random = random.Random(f"{type(self).__name__} {seed}")

    def run(self) -> None:
        while not self.over.wait(self.random.uniform(*self.pauses)):
            self.disturb()

    def disturb(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        """Returns once it has done its last."""
        self.over.set()
        self.join()

    def tell(self, what: object) -> None:
        self.done.append(f"{time.monotonic():9.3f} {what}")


class Killer(Disturbance):
    """SIGKILL for any process of ours, or SIGSTOP for a while."""

    def disturb(self) -> None:
        victims = [process for process in self.host.processes() if is_ours(process)]
        if victims and self._is_whole():
            self._strike(self.random.choice(victims))

    def _is_whole(self) -> bool:
        """Whether agent and shim both live: one death is what they promise to bear, and two at once leave nobody."""
        record = self.host.record(AGENT)
        return record["state"] == "ready" and all(processes.look(pid) for pid in (record["pid"], record["shim"]["pid"]))

    def _strike(self, victim: Process) -> None:
        is_stopped = self.random.random() < 0.2
        self.tell(f"{'STOP' if is_stopped else 'KILL'} {victim}")
        if not processes.is_alive(victim):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGSTOP if is_stopped else signal.SIGKILL)
            if is_stopped:
                self.over.wait(self.random.uniform(0.1, 2.0))
                os.kill(victim.pid, signal.SIGCONT)


def is_ours(process: Process) -> bool:
    """Whether it is a process of the agent, and not of a project."""
    return "counts_lines" not in process.command and "__main__.py" not in process.command


class Clock(Disturbance):
    """The wall clock jumps, by up to ten years and either way."""

    pauses = (0.05, 0.5)
    JUMPS_SECONDS = (0.0, -3600.0, 3600.0, -3.0, 3.0, 3e8, -3e8)

    def disturb(self) -> None:
        offset = self.random.choice(self.JUMPS_SECONDS)
        self.tell(f"the clock is {offset:+g} s")
        jump(self.host, offset)


class Disk(Disturbance):
    """Something else fills the store's disk, and makes room again."""

    pauses = (0.3, 1.5)
    host: SmallDisk

    def disturb(self) -> None:
        self.tell("the disk is full")
        path = self.host.fill("filler")
        self.over.wait(self.random.uniform(0.1, 1.0))
        os.unlink(path)
        self.tell("there is room again")
