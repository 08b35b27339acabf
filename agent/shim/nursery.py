"""Where shims come from: the agent's own shim forks them, since it is single-threaded and has the code loaded.

A forked shim costs a sixth of one that was started afresh, and starts in a few milliseconds.
The agent asks over a SOCK_SEQPACKET socketpair and hands over the project's lock (SCM_RIGHTS).
Both ends notice the other's death as an end of file.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from typing import Callable, Dict, NoReturn, Optional, Set

from agent.host import procfs
from agent.model import AGENT_PROJECT
from agent.shim.child import leave_orphan_status
from agent.shim.record import read_record
from agent.store.layout import StoreLayout

MESSAGE_BYTES = 4096


class Nursery:
    """The agent's shim's end of the conversation with the agent."""

    def __init__(
        self, store: StoreLayout, control: Optional[int], run_project: Callable[[StoreLayout, str], NoReturn]
    ) -> None:
        self._store = store
        self._control = socket.socket(fileno=control) if control is not None else None
        self._run_project = run_project
        self._shims: Set[int] = set()
        self.agent_is_ready = control is not None  # who passes us a control socket is at work already

    @property
    def fd(self) -> Optional[int]:
        """The descriptor to poll; None while there is no agent."""
        return self._control.fileno() if self._control is not None else None

    def open_control(self) -> int:
        """A fresh conversation for a new agent; its end of it as a descriptor, to be closed after the fork."""
        if self._control is not None:
            self._control.close()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.agent_is_ready = False
        return theirs.detach()

    def serve(self) -> None:
        """Read and answer one message; the end of the conversation is the agent's end, which SIGCHLD tells as well."""
        assert self._control is not None
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES, 1)
        except OSError:
            data, descriptors = b"", []
        if not data:
            self._control.close()
            self._control = None
            return
        for fd in descriptors:
            os.set_inheritable(fd, False)  # or a project would hold its lock after its shim's death
        message = json.loads(data)
        if message["say"] == "ready":
            self.agent_is_ready = True
        elif message["say"] == "fork":
            self._answer({"id": message["id"], **self._fork(message["project"], descriptors[0])})

    def _answer(self, answer: Dict[str, object]) -> None:
        try:
            assert self._control is not None
            self._control.send(json.dumps(answer).encode())
        except OSError as error:  # the agent is gone; its successor looks at the locks
            sys.stderr.write(f"the agent did not hear {answer}: {error}\n")

    def _fork(self, project: str, lock: int) -> Dict[str, object]:
        try:
            pid = os.fork()
        except OSError as error:
            os.close(lock)
            return {"error": f"fork: {error.strerror}"}
        if pid == 0:
            signal.set_wakeup_fd(-1)
            _keep_only(lock)
            self._run_project(self._store, project)
        os.close(lock)
        self._shims.add(pid)
        return {"pid": pid}

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
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and fd != lock:
            try:
                os.close(fd)
            except OSError:  # the descriptor of the listing itself
                continue
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)
