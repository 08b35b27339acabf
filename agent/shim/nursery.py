"""Where shims come from: the agent's own shim forks them, since it is single-threaded and has the code loaded.

A forked shim costs a sixth of one that was started afresh, and starts in a few milliseconds.
The agent asks over a SOCK_SEQPACKET socketpair and hands over the project's lock (SCM_RIGHTS).
Both ends notice the other's death as an end of file.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Callable, Dict, NoReturn, Optional, Set

from agent.host import procfs, sockets
from agent.model import AGENT_PROJECT, Release
from agent.shim.child import leave_orphan_status
from agent.shim.record import read_record
from agent.store.layout import StoreLayout

MESSAGE_BYTES = 4096
_ONE_DESCRIPTOR = socket.CMSG_SPACE(4)
#: More than the agent's shim ever has open: sockets, log, lock, pipes.
_DESCRIPTORS = 1024


class Nursery:
    """The agent's shim's end of the conversation with the agent."""

    def __init__(
        self, store: StoreLayout, passed: Dict[str, int], run_project: Callable[[StoreLayout, str], NoReturn]
    ) -> None:
        control = passed.pop("control", None)
        self._store = store
        self._sockets = passed
        self._control = socket.socket(fileno=control) if control is not None else None
        self._run_project = run_project
        self._shims: Set[int] = set()
        self._theirs: Optional[socket.socket] = None
        self.agent_is_ready = control is not None  # who passes us a control socket is at work already
        self._ready_is_news = False

    @property
    def fd(self) -> int:
        """The descriptor to poll; -1 while there is no agent."""
        return self._control.fileno() if self._control is not None else -1

    @property
    def has_news(self) -> bool:
        """Whether the agent has become ready since this was asked last."""
        news, self._ready_is_news = self._ready_is_news, False
        return news

    def pass_sockets(self, release: Release) -> Dict[str, int]:
        """What a new agent gets: the listening sockets, held here for good, and its end of a fresh conversation."""
        for name, address in release.sockets.items():
            if name not in self._sockets:
                self._sockets[name] = sockets.bind(name, address)
        if self._control is not None:
            self._control.close()
        self._control, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.agent_is_ready = False
        return {**{name: self._sockets[name] for name in release.sockets}, "control": self._theirs.fileno()}

    def close_passed(self) -> None:
        """The new agent has its end of the conversation: close it here, or its end would go unnoticed."""
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None

    def serve(self) -> None:
        """Read and answer one message; the end of the conversation is the agent's end, which SIGCHLD tells as well.

        Messages are words, `ready` and `fork ID PROJECT`, since what this process does between two forks, each fork pays for.
        """
        assert self._control is not None
        try:
            data, passed, _, _ = self._control.recvmsg(MESSAGE_BYTES, _ONE_DESCRIPTOR, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            data, passed = b"", []
        words = data.split()
        if not words:
            self._control.close()
            self._control = None
        elif words[0] == b"ready":
            self.agent_is_ready = self._ready_is_news = True
        elif words[0] == b"fork":
            # close-on-exec, or a project would hold its own lock after its shim's death
            lock = int.from_bytes(passed[0][2][:4], sys.byteorder)
            self._answer(words[1] + b" " + self._fork(words[2].decode(), lock))

    def _answer(self, answer: bytes) -> None:
        try:
            assert self._control is not None
            self._control.send(answer)
        except OSError as error:  # the agent is gone; its successor looks at the locks
            sys.stderr.write(f"the agent did not hear {answer!r}: {error}\n")

    def _fork(self, project: str, lock: int) -> bytes:
        """`ok`, or what went wrong."""
        try:
            pid = os.fork()
        except OSError as error:
            os.close(lock)
            return b"fork: " + str(error.strerror).encode()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            _keep_only(lock)
            self._run_project(self._store, project)
        os.close(lock)
        self._shims.add(pid)
        return b"ok"

    def reaped(self, pid: int, status: int) -> None:
        """A child that is not the agent ended: a shim, or an orphan of a dead shim whose status its adopter wants."""
        if pid in self._shims:
            self._shims.discard(pid)
            return
        for project in os.listdir(self._store.projects):
            layout = self._store.project(project)
            record = read_record(layout) if project != AGENT_PROJECT else None
            if record is not None and record.pid == pid and record.boot_id == procfs.boot_id() and record.start_time:
                leave_orphan_status(layout, pid, record.start_time, status)


def _keep_only(lock: int) -> None:
    """In the forked child: no descriptor of the agent's shim but the project's lock, and nothing to talk to."""
    os.closerange(3, lock)
    os.closerange(lock + 1, _DESCRIPTORS)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
