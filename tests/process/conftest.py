"""A store with a nursery of its own: real shims, without a web server in front."""

from __future__ import annotations

import os
import select
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Iterator, List, Optional

import pytest

from agent.host import files, procfs
from agent.host.notify import Notifier
from agent.model import LogPolicy, Release, RestartPolicy, StopPolicy
from agent.operations.agent import Agent
from agent.shim.handle import Control, Handle
from agent.shim.main import run_project
from agent.shim.nursery import Nursery
from agent.shim.record import Record, Want
from agent.shim.resident import install_handlers, reap
from agent.store import releases
from agent.store.layout import StoreLayout
from agent.store.unpacker import Unpacker
from tests.support.wait import eventually


def _nurse(store: StoreLayout, control: int) -> None:
    """What the agent's own shim does besides looking after the agent: fork shims, reap."""
    from agent.host import prctl

    prctl.set_subreaper()
    nursery = Nursery(store, {"lock": -1, "control": control}, run_project, Notifier())
    nursery.meet(os.getppid(), is_ready=True)
    wake = install_handlers()
    while nursery.fds:
        readable, _, _ = select.select([*nursery.fds, wake], [], [])
        for fd in readable:
            if fd == wake:
                os.read(wake, 4096)
            else:
                nursery.serve(fd)
        for pid, status in reap({})[0]:
            nursery.reaped(pid, status)


class Host:
    """Launch commands in a store and look at what the shims make of them."""

    def __init__(self, root: Path) -> None:
        self.store = StoreLayout(str(root))
        for directory in (self.store.staging, self.store.projects):
            files.make_directory(directory)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.nursery_pid = os.fork()
        if self.nursery_pid == 0:
            try:
                ours.close()
                _nurse(self.store, theirs.detach())
            finally:
                os._exit(0)
        theirs.close()
        self._socket = ours
        self.control = Control(ours)

    @property
    def agent(self) -> Agent:
        """What operations work with; it unpacks nothing."""
        return Agent(self.store, self.control, 0.0, Unpacker(self._socket, 0))

    def handle(self, project: str) -> Handle:
        return Handle(self.store.project(project), self.control)

    def add_release(
        self, project: str, script: str, version: str = "1", restart: Optional[RestartPolicy] = None,
        stop: Optional[StopPolicy] = None, logs: Optional[LogPolicy] = None,
    ) -> Release:  # fmt: skip
        layout = self.store.project(project)
        files.make_directory(layout.root)
        files.make_directory(layout.release(version), 0o755)
        command = (sys.executable, "-I", "-S", "-c", script)
        release = Release(project, version, "0" * 64, 0, command, received_at=version)
        release = replace(
            release,
            restart=restart or RestartPolicy(),
            stop=stop or StopPolicy(grace_seconds=0.5),
            logs=logs or LogPolicy(),
        )
        releases.commit(layout, release)
        return release

    def up(self, project: str, version: str = "1", fallback: Optional[str] = None) -> Want:
        return self.handle(project).change_want(lambda last: Want(True, 0, version, fallback))

    def down(self, project: str) -> Record:
        want = self.handle(project).change_want(lambda last: replace(last, up=False) if last else Want(False, 0))
        record = self.handle(project).wait(lambda r: r.generation == want.generation and r.settled, 60)
        assert record is not None, self.handle(project).record()
        return record

    def await_state(self, project: str, *states: str, seconds: float = 20) -> Record:
        record = self.handle(project).wait(lambda r: r.state in states, seconds)
        assert record is not None, self.handle(project).record()
        return record

    def run(self, project: str, script: str, **policies: object) -> Record:
        self.add_release(project, script, **policies)  # type: ignore[arg-type]
        self.up(project)
        return self.await_state(project, "ready")

    def output(self, project: str) -> bytes:
        directory = Path(self.store.project(project).logs)
        return b"".join(path.read_bytes() for path in sorted(directory.glob("output-*.log")))

    def await_output(self, project: str, text: bytes) -> bytes:
        eventually(lambda: text in self.output(project), message=f"{text!r} in the output of {project}")
        return self.output(project)

    def leftovers(self) -> List[procfs.Process]:
        """Every live process that carries this store in its environment."""
        prefix = b"PERSIST_DIR=" + self.store.root.encode() + b"/"
        found = []
        for process in procfs.processes():
            try:
                data = files.read_bytes(f"/proc/{process.pid}/environ") or b""
            except (ProcessLookupError, PermissionError):
                continue
            if prefix in data:
                found.append(process)
        return found

    def close(self) -> None:
        for project in os.listdir(self.store.projects):
            if self.handle(project).want() is not None:
                self.down(project)
        self._socket.close()
        os.waitpid(self.nursery_pid, 0)


@pytest.fixture
def shims(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    host.close()
    assert host.leftovers() == []
