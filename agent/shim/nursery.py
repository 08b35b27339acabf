"""Where shims come from: the agent's own shim forks them, since it is single-threaded and has the code loaded.

A forked shim costs a sixth of one that was started afresh, and starts in a few milliseconds.
The agent asks over a SOCK_SEQPACKET socketpair and hands over the project's lock (SCM_RIGHTS).
Both ends notice the other's death as an end of file.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import sys
import time
from typing import Callable, Dict, NoReturn, Optional, Sequence, Set, Tuple

from agent.host import procfs, signals, sockets
from agent.host.notify import Notifier
from agent.model import AGENT_PROJECT, Release
from agent.shim.child import leave_orphan_status
from agent.shim.record import read_record
from agent.store.layout import StoreLayout

MESSAGE_BYTES = 4096
_TWO_DESCRIPTORS, _CLOEXEC = socket.CMSG_SPACE(8), int(socket.MSG_CMSG_CLOEXEC)
#: More than the agent's shim ever has open: sockets, log, lock, pipes.
_DESCRIPTORS = 1024


class Conversation:
    """What is said with one agent. `heard_clock` is when it last gave a sign of life, `proved_from` when its proof began."""

    def __init__(self, control: socket.socket, pid: int, is_ready: bool) -> None:
        self.socket = control
        self.start_time = procfs.start_time(pid) or 0
        self.is_ready = is_ready
        self.heard_clock = time.monotonic()
        self.proved_from: Optional[float] = None

    @property
    def silent_seconds(self) -> float:
        """Since its last sign of life; 0 while one lies unread, for then it is we who are late."""
        unread = select.poll()
        unread.register(self.socket, select.POLLIN)
        return 0.0 if unread.poll(0) else time.monotonic() - self.heard_clock


class Nursery:
    """The agent's shim's end of the conversations with its agents: one, or two while one succeeds the other."""

    def __init__(
        self, store: StoreLayout, passed: Dict[str, int], run_project: Callable[[StoreLayout, str, int, int], NoReturn],
        notifier: Notifier,
    ) -> None:  # fmt: skip
        self.lock = passed.pop("lock")
        control = passed.pop("control", None)
        self.store = store
        self._sockets = passed
        self._unmet = socket.socket(fileno=control) if control is not None else None
        self._theirs: Optional[socket.socket] = None
        self.notifier = notifier
        self._is_managed = bool(notifier)
        self._run_project = run_project
        self._shims: Set[int] = set()
        self._agents: Dict[int, Conversation] = {}
        #: The descriptors to poll.
        self.fds: Tuple[int, ...] = ()
        #: Whether an agent has become ready since this was taken back.
        self.has_news = False
        self._is_hung_up = False

    def hang_up(self, *_: object) -> None:
        """The handler of SIGHUP, which is the agent's to act upon."""
        self._is_hung_up = True

    def beat(self) -> float:
        """Pass SIGHUP on, and tell the service manager how it stands; when (monotonic clock) to do so again, 0 for never."""
        if self._is_hung_up:
            self._is_hung_up = False
            for pid, agent in self._agents.items():
                signals.send(pid, agent.start_time, signal.SIGHUP)
        return self.notifier.beat(any(agent.is_ready for agent in self._agents.values())) if self._is_managed else 0.0

    def agent(self, pid: Optional[int]) -> Optional[Conversation]:
        """The conversation with the agent of that pid."""
        return self._agents.get(pid or 0)

    def pass_sockets(self, release: Release) -> Dict[str, int]:
        """What a new agent gets: the listening sockets, held here for good, and its end of a fresh conversation."""
        for name, address in release.sockets.items():
            if name not in self._sockets:
                self._sockets[name] = sockets.bind(name, address)
        self._unmet, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return {**{name: self._sockets[name] for name in release.sockets}, "control": self._theirs.fileno()}

    def close_passed(self) -> None:
        """The new agent has its end of the conversation: close it here, or its end would go unnoticed."""
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None

    def meet(self, pid: int, is_ready: bool = False) -> None:
        """The conversation just opened, or passed to us by an agent at work, is with this one."""
        if self._unmet is not None:
            self._agents[pid] = Conversation(self._unmet, pid, is_ready)
            self._unmet = None
            self.fds = tuple(agent.socket.fileno() for agent in self._agents.values())

    def part(self, pid: int) -> None:
        """The agent of that pid is gone."""
        agent = self._agents.pop(pid, None)
        if agent is not None:
            agent.socket.close()
            self.fds = tuple(agent.socket.fileno() for agent in self._agents.values())

    def execute(self, command: Sequence[str], pid: int) -> None:
        """Go on as another release of the shim: same process, same children, same descriptors. OSError if it can't be.

        Signals wait until the new program has its handlers (mask and pending signals survive exec; signal(7)).
        """
        kept = {"lock": self.lock, "control": self._agents[pid].socket.fileno(), **self._sockets}
        for fd in kept.values():
            os.set_inheritable(fd, True)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            words = [*command, *(f"{name}={fd}" for name, fd in kept.items())]
            os.execve(command[0], words, self.notifier.environment)
        finally:  # it failed, and no project may get these
            for fd in kept.values():
                os.set_inheritable(fd, False)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def serve(self, fd: int) -> None:
        """Read and answer one message; the end of the conversation is the agent's end, which SIGCHLD tells as well.

        Messages are words (`ready`, `alive`, `fork ID PROJECT SEGMENT`), since what this process does between two forks, each
        fork pays for in memory.
        """
        pid, agent = list(self._agents.items())[self.fds.index(fd)]
        try:
            data, passed, _, _ = agent.socket.recvmsg(MESSAGE_BYTES, _TWO_DESCRIPTORS, _CLOEXEC)
        except OSError:
            data, passed = b"", []
        words = data.split()
        agent.heard_clock = time.monotonic()
        if not words:
            self.part(pid)
        elif words[0] == b"ready":
            agent.is_ready = self.has_news = True
        elif words[0] == b"fork" and not passed:
            _answer(agent, words[1] + b" the project's lock did not arrive: too many open files")
        elif words[0] == b"fork":
            # close-on-exec, or a project would hold its own lock after its shim's death
            lock, gate = struct.unpack("=2i", passed[0][2][:8].ljust(8, b"\xff"))
            _answer(agent, words[1] + b" " + self._fork(words[2].decode(), int(words[3]), lock, gate))

    def _fork(self, project: str, number: int, lock: int, gate: int) -> bytes:
        """`ok`, or what went wrong. `gate` is -1 for a shim that needs not wait for its want."""
        try:
            pid, answer = os.fork(), b"ok"
        except OSError as error:
            pid, answer = -1, b"fork: " + str(error.strerror).encode()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            _keep_only(lock, gate)
            self._run_project(self.store, project, number, gate)
        for fd in (lock, gate):
            if fd >= 0:
                os.close(fd)
        if pid > 0:
            self._shims.add(pid)
        return answer

    def reaped(self, pid: int, status: int) -> None:
        """A child that is not the agent ended: a shim, or an orphan of a dead shim whose status its adopter wants."""
        if pid in self._shims:
            self._shims.discard(pid)
            return
        for project in os.listdir(self.store.projects):
            layout = self.store.project(project)
            record = read_record(layout) if project != AGENT_PROJECT else None
            if record is not None and record.pid == pid and record.boot_id == procfs.boot_id() and record.start_time:
                leave_orphan_status(layout, pid, record.start_time, status)


def _answer(agent: Conversation, answer: bytes) -> None:
    try:
        agent.socket.send(answer)
    except OSError as error:  # the agent is gone; its successor looks at the locks
        sys.stderr.write(f"the agent did not hear {answer!r}: {error}\n")


def _keep_only(*kept: int) -> None:
    """In the forked child: no descriptor of the agent's shim but these, and nothing to talk to."""
    first = 3
    for fd in sorted(fd for fd in kept if fd >= 0):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, _DESCRIPTORS)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
