"""A project's first process: what it starts with, why it could not start, and that no unrecorded one ever runs."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import pytest

from agent.host import files, procfs
from agent.model import Exited, FailedToStart, Signaled
from agent.shim.tree import Spawned, cause_of, spawn
from tests.support import processes
from tests.support.wait import eventually

#: Says that it is up, and stays as it was started; the alarm is for a test that has gone wrong, so that it fails and not hangs.
WAITS = (sys.executable, "-I", "-S", "-c", "import signal; signal.alarm(60); print('up', flush=True); signal.pause()")
SAYS = ("/bin/sh", "-c", "echo executed")


def descriptors(pid: int) -> Dict[int, str]:
    """What `pid` has open, but for what whoever started these tests had left inheritable."""
    not_ours = {int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2 and is_inheritable(int(name))}
    return {fd: target for fd, target in processes.descriptors(pid).items() if fd not in not_ours}


def is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:  # it was the listing's own
        return False


class Nest:
    """Spawns into a pipe, and ends what it spawned."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.reader, self._writer = os.pipe()
        self._children: List[int] = []

    def spawn(
        self, command: Sequence[str], directory: Optional[str] = None, environ: Mapping[str, str] = {},
        sockets: Mapping[str, int] = {},
    ) -> Spawned:  # fmt: skip
        spawned = spawn(command, directory or self.directory, environ, self._writer, sockets)
        self._children.append(spawned.pid)
        return spawned

    def started(self, environ: Mapping[str, str] = {}, sockets: Mapping[str, int] = {}) -> int:
        """The pid of a child that runs and has said so."""
        spawned = self.spawn(WAITS, environ=environ, sockets=sockets)
        assert spawned.release() is None
        assert os.read(self.reader, 100) == b"up\n"
        return spawned.pid

    def output(self) -> bytes:
        """All that was written, once nobody is left to write."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1
        parts: List[bytes] = []
        while True:
            part = os.read(self.reader, 65536)
            if not part:
                return b"".join(parts)
            parts.append(part)

    def wait(self, pid: int) -> int:
        self._children.remove(pid)
        return os.waitpid(pid, 0)[1]

    def close(self) -> None:
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(self.reader)
        if self._writer >= 0:
            os.close(self._writer)


@pytest.fixture
def nest(tmp_path: Path) -> Iterator[Nest]:
    found = Nest(str(tmp_path))
    yield found
    found.close()


# ---------------------------------------------------------------------- what it starts with


def test_it_has_three_descriptors_and_nothing_of_ours(nest: Nest, tmp_path: Path) -> None:
    with open(tmp_path / "ours", "wb"):
        found = descriptors(nest.started())
    assert sorted(found) == [0, 1, 2]
    assert found[0] == "/dev/null"
    assert found[1] == found[2] == os.readlink(f"/proc/self/fd/{nest.reader}")


def test_it_leads_a_session_of_its_own(nest: Nest) -> None:
    pid = nest.started()
    assert (os.getsid(pid), os.getpgid(pid)) == (pid, pid)


def test_it_works_in_its_directory_with_a_plain_umask(nest: Nest) -> None:
    before = os.umask(0o077)
    pid = nest.started()
    os.umask(before)
    assert os.readlink(f"/proc/{pid}/cwd") == os.path.realpath(nest.directory)
    assert processes.status(pid)["Umask"] == "0022"


def test_its_environment_is_what_was_given_and_no_more(nest: Nest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_AGENT", "x")
    assert processes.environment(nest.started({"A": "b=c", "E": ""})) == {"A": "b=c", "E": ""}


def test_it_ignores_and_blocks_no_signal(nest: Nest) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGTERM})
    spawned = nest.spawn(("/bin/cat", "/proc/self/status"))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert spawned.release() is None
    lines = dict(line.split(":\t", 1) for line in nest.output().decode().splitlines())
    assert [int(lines[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]


def test_its_sockets_follow_its_descriptors_in_order(nest: Nest) -> None:
    with socket.socket() as http, socket.socket() as control:
        links = [os.readlink(f"/proc/self/fd/{held.fileno()}") for held in (control, http)]
        pid = nest.started({"A": "b"}, {"control": control.fileno(), "http": http.fileno()})
    found = descriptors(pid)
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert [found[3], found[4]] == links
    assert processes.environment(pid) == {
        "A": "b", "LISTEN_FDS": "2", "LISTEN_PID": str(pid), "LISTEN_FDNAMES": "control:http",
    }  # fmt: skip


def test_sockets_that_have_to_change_places_do(nest: Nest) -> None:
    with socket.socket() as http, socket.socket() as control:
        links = [os.readlink(f"/proc/self/fd/{held.fileno()}") for held in (control, http)]
        parent = os.fork()
        if parent == 0:
            try:
                high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in (control.fileno(), http.fileno())]
                for fd, place in zip(high, (4, 3)):
                    os.dup2(fd, place, inheritable=False)
                command = ("/bin/sh", "-c", "readlink /proc/$$/fd/3; readlink /proc/$$/fd/4")
                failure = nest.spawn(command, environ={"PATH": os.defpath}, sockets={"control": 4, "http": 3}).release()
                os._exit(0 if failure is None else 2)
            finally:
                os._exit(1)
        assert cause_of(os.waitpid(parent, 0)[1]) == Exited(0)
    assert nest.output().decode().split() == links


def test_both_outputs_go_one_way_in_order(nest: Nest) -> None:
    spawned = nest.spawn(("/bin/sh", "-c", "echo one; echo two >&2; echo three; exit 7"))
    assert spawned.release() is None
    assert nest.output() == b"one\ntwo\nthree\n"
    assert cause_of(nest.wait(spawned.pid)) == Exited(7)


# ---------------------------------------------------------------------- why it could not start


def write(path: Path, content: str, mode: int = 0o755) -> str:
    path.write_text(content)
    path.chmod(mode)
    return str(path)


def failures(directory: Path) -> Dict[str, Tuple[str, str]]:
    """Programs that can't be executed, and what has to be said of each."""
    return {
        "missing": (str(directory / "none"), "No such file"),
        "no interpreter": (write(directory / "a", "#!/nonexistent/sh\n"), "its interpreter does not exist on this host"),
        "no program": (write(directory / "b", "echo\n"), "not a program for this host"),
        "empty": (write(directory / "c", ""), "not a program for this host"),
        "no run bit": (write(directory / "d", "#!/bin/sh\n", 0o644), "Permission denied"),
        "a directory": (str(directory), "Permission denied"),
    }


@pytest.mark.parametrize("name", ["missing", "no interpreter", "no program", "empty", "no run bit", "a directory"])
def test_a_program_that_cannot_be_executed_says_why(nest: Nest, tmp_path: Path, name: str) -> None:
    program, reason = failures(tmp_path)[name]
    spawned = nest.spawn((program,))
    failure = spawned.release()
    assert isinstance(failure, FailedToStart)
    assert program in failure.reason and reason in failure.reason
    assert cause_of(nest.wait(spawned.pid)) == Exited(127)
    assert nest.output() == b""


def test_a_missing_directory_is_not_blamed_on_the_program(nest: Nest, tmp_path: Path) -> None:
    failure = nest.spawn(SAYS, str(tmp_path / "gone")).release()
    assert failure is not None
    assert str(tmp_path / "gone") in failure.reason and "interpreter" not in failure.reason


# ---------------------------------------------------------------------- the gate


def test_it_executes_once_it_is_released_and_not_before(nest: Nest) -> None:
    spawned = nest.spawn(SAYS)
    # it is a copy of this process still: the pid and start time on record are of what will be executed
    assert processes.look(spawned.pid) is not None
    assert os.readlink(f"/proc/{spawned.pid}/exe") == os.readlink("/proc/self/exe")
    assert procfs.start_time(spawned.pid) == spawned.start_time
    assert spawned.release() is None
    assert nest.output() == b"executed\n"
    assert cause_of(nest.wait(spawned.pid)) == Exited(0)


def test_a_child_whose_parent_dies_before_the_release_executes_nothing(nest: Nest) -> None:
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        try:
            spawned = nest.spawn(SAYS)
            os.write(writer, f"{spawned.pid} {spawned.start_time}".encode())
            signal.pause()
        finally:
            os._exit(1)
    pid, started = map(int, os.read(reader, 100).split())
    os.close(reader)
    os.close(writer)
    child = processes.look(pid)
    assert child is not None and child.start_time == started
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    try:
        eventually(lambda: not processes.is_alive(child), message="the child ends with its parent")
    finally:
        processes.kill_all([child])
    assert nest.output() == b""


def test_a_child_that_dies_behind_its_gate_is_a_run_that_was_killed(nest: Nest) -> None:
    spawned = nest.spawn(SAYS)
    os.kill(spawned.pid, signal.SIGKILL)
    os.waitid(os.P_PID, spawned.pid, os.WEXITED | os.WNOWAIT)
    assert spawned.release() is None
    assert cause_of(nest.wait(spawned.pid)) == Signaled(9)
    assert nest.output() == b""


def test_spawning_leaves_no_descriptor_open(nest: Nest) -> None:
    before = set(os.listdir("/proc/self/fd"))
    assert nest.spawn(SAYS).release() is None
    assert nest.spawn(("/nonexistent",)).release() is not None
    assert set(os.listdir("/proc/self/fd")) == before


def test_what_is_left_of_a_dead_process_is_no_error() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert not files.read_bytes(f"/proc/{pid}/environ")  # of a zombie: ESRCH
        assert not procfs.has_environment(pid, b"A=B")
    finally:
        os.waitpid(pid, 0)
