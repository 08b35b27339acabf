"""What goes wrong beside the clients: each is a thread that goes on until it is told to end, and tells what it did."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import threading
import time
from typing import Callable, Dict, List, Optional, Sequence

from tests.chaos.clients import BYSTANDER, PROJECTS, Client
from tests.support import processes
from tests.support.agent import AGENT, AgentHost
from tests.support.clock import jump
from tests.support.disk import SmallDisk
from tests.support.processes import Process
from tests.support.wait import eventually


class Disturbance(threading.Thread):
    """Does something again and again, after pauses of so many seconds. `clients` are those that it disturbs."""

    pauses = (0.2, 1.0)

    def __init__(self, host: AgentHost, seed: int) -> None:
        super().__init__(daemon=True)
        self.done: List[str] = []
        self.wrong: List[str] = []
        self.clients: Sequence[Client] = ()
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
        if victims and is_whole(self.host):
            self.strike(self.random.choice(victims), self.random.random() < 0.2)

    def strike(self, victim: Process, is_stopped: bool) -> None:
        self.tell(f"{'STOP' if is_stopped else 'KILL'} {victim}")
        if not processes.is_alive(victim):
            return
        if not is_stopped:
            processes.kill_hard(victim)  # until it is gone, it passes for alive, and its shim or agent would be the next
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGSTOP)
            self.over.wait(self.random.uniform(0.1, 2.0))
            os.kill(victim.pid, signal.SIGCONT)


def is_whole(host: AgentHost) -> bool:
    """Whether agent and shim both live: one death is what they promise to bear, and two at once leave nobody."""
    record = host.record(AGENT)
    return record["state"] == "ready" and all(processes.look(pid) for pid in (record["pid"], record["shim"]["pid"]))


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


class Strikes(Killer):
    """Each of these once, in an order of its own, spread over the clients' calls: however slow they are, they meet all of it.

    A strike is one of `VICTIMS`, or `stop` and one of them; so many of them are what `other` does instead.
    """

    def __init__(
        self, host: AgentHost, seed: int, strikes: Sequence[str], other: Optional[Disturbance] = None, others: int = 0
    ) -> None:  # fmt: skip
        super().__init__(host, seed)
        acts: List[Callable[[], None]] = [functools.partial(self._hit, name) for name in strikes]
        if other is not None:
            acts += [other.disturb] * others
            other.done = self.done
        self._strikes = self.random.sample(acts, len(acts))

    def run(self) -> None:
        for number, strike in enumerate(self._strikes):
            enough = number / len(self._strikes)
            eventually(lambda: self._share_made() >= enough, _LONG_SECONDS, "calls")  # noqa: B023
            strike()

    def end(self) -> None:
        """All of them are done, whether or not the clients were faster."""
        self.join()

    def _share_made(self) -> float:
        """Of the calls; a client that has ended has made all of its own."""
        return sum(client.share_made for client in self.clients) / len(self.clients)

    def _hit(self, name: str) -> None:
        role = name.replace("stop ", "")
        victim = eventually(lambda: self._victim(role), _LONG_SECONDS, f"a process to strike: {name}")
        self.tell(name)
        self.strike(victim, name != role)

    def _victim(self, role: str) -> Optional[Process]:
        """One of that role, at a moment at which it may be struck."""
        found = VICTIMS[role](self.host) if is_whole(self.host) else []
        return self.random.choice(found) if found else None


#: For what has to be there sooner or later while the clients call.
_LONG_SECONDS = 120.0


def _shims_of(host: AgentHost, *projects: str) -> List[Process]:
    found = []
    for project in projects:
        with contextlib.suppress(FileNotFoundError):
            shim = host.record(project)["shim"]
            process = processes.look(shim["pid"]) if shim else None
            found += [process] if process and process.start_time == shim["start_time"] else []
    return found


def _agent_of(host: AgentHost) -> List[Process]:
    found = processes.look(host.record(AGENT)["pid"])
    return [found] if found else []


def _unpacker_of(host: AgentHost) -> List[Process]:
    """The agent itself where the unpacker was killed and nobody has needed another one yet."""
    below = processes.tree(host.record(AGENT)["pid"])
    return [found for found in below if found.command == "ant-host-agent unpacker"] or _agent_of(host)


#: Whom there is to strike: by its name the processes that are it. There is always one, whatever the clients have left at work.
VICTIMS: Dict[str, Callable[[AgentHost], List[Process]]] = {
    "agent": _agent_of,
    "shim of the agent": lambda host: _shims_of(host, AGENT),
    "shim of a project": lambda host: _shims_of(host, *PROJECTS) or _shims_of(host, BYSTANDER),
    "shim of the bystander": lambda host: _shims_of(host, BYSTANDER),
    "unpacker": _unpacker_of,
    "anybody": lambda host: [found for found in host.processes() if is_ours(found)],
}


#: What a brief one strikes at, while each client makes so many calls.
STRIKES = (
    *("agent", "shim of a project", "anybody") * 3, *("shim of the agent", "shim of the bystander") * 2, "unpacker",
    "stop agent", "stop shim of the agent", "stop shim of a project",
)  # fmt: skip
BRIEF_CALLS = 30
