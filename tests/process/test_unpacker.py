"""The process that unpacks: confined by the kernel, its refusals whole, its end an answer."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import resource
import signal
import socket
import sys
import tarfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict, Iterator, List

import pytest

from agent.errors import AgentError, ArtifactFault, StorageFull
from agent.host import confinement, procfs
from agent.store.artifacts import Kind, extract
from agent.store.limits import DEFAULT, MIB, Limits
from agent.store.unpacker import MEMORY_BYTES, Extract, Unpacker
from tests.support import processes
from tests.support.wait import eventually

Start = Callable[..., Unpacker]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts unpackers whose workers run the function given; each ends, and all of its workers with it."""
    started: List[Unpacker] = []

    def start(function: Extract = extract, limits: Limits = DEFAULT) -> Unpacker:
        started.append(Unpacker.start(limits, function))
        return started[-1]

    yield start
    for unpacker in started:
        unpacker.close()
    assert procfs.descendants([os.getpid()], procfs.processes()) == []


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "archive.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in (("run.sh", b"#!/bin/sh\n"), ("data", bytes(3 * MIB))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "staging" / "release"
    path.mkdir(parents=True)
    return path


def attempt(what: Callable[[], object]) -> str:
    """The name of the error that it ends with, or `done`."""
    try:
        what()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "done"


def test_an_archive_is_unpacked(start: Start, archive: Path, target: Path) -> None:
    assert start().extract(str(archive), str(target)) is Kind.TAR
    assert (target / "run.sh").read_bytes() == b"#!/bin/sh\n"


def test_a_refusal_keeps_its_kind_hint_and_members(start: Start, archive: Path, target: Path) -> None:
    def refuse(path: str, directory: str) -> Kind:
        raise StorageFull("The disk.", "Free it.", free_bytes=7)

    with pytest.raises(StorageFull) as caught:
        start(refuse).extract(str(archive), str(target))
    assert (caught.value.detail, caught.value.hint, caught.value.members) == ("The disk.", "Free it.", {"free_bytes": 7})


def test_an_error_of_the_disk_is_raised_here(start: Start, archive: Path, target: Path) -> None:
    def fail(path: str, directory: str) -> Kind:
        raise OSError(errno.EIO, "the disk")

    with pytest.raises(OSError) as caught:
        start(fail).extract(str(archive), str(target))
    assert caught.value.errno == errno.EIO


def test_a_worker_can_do_what_it_needs_and_nothing_else(start: Start, archive: Path, target: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("alive")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def look(path: str, directory: str) -> Kind:
            os.mkdir(f"{directory}/d")
            os.link(archive_copy(directory), f"{directory}/d/link")
            os.rename(f"{directory}/d/link", f"{directory}/renamed")
            attempts: Dict[str, Callable[[], object]] = {
                "write": lambda: os.open(canary, os.O_WRONLY),
                "truncate": lambda: os.truncate(canary, 0),
                "read": lambda: os.open("/etc/passwd", os.O_RDONLY),
                "list": lambda: os.listdir("/"),
                "make": lambda: os.mkdir(tmp_path / "made"),
                "remove": lambda: os.unlink(canary),
                "link": lambda: os.link(canary, f"{directory}/canary"),
                "rename": lambda: os.rename(canary, f"{directory}/canary"),
                "device": lambda: os.mkfifo(f"{directory}/fifo"),
                "execute": lambda: os.execv("/bin/true", ["true"]),
                "connect": lambda: socket.socket().connect(("127.0.0.1", port)),
                "signal": lambda: os.kill(os.getppid(), 0),
            }
            result = {name: attempt(what) for name, what in attempts.items()}
            with open(f"{directory}/result", "w", encoding="utf-8") as file:
                file.write("\n".join(f"{name} {found}" for name, found in result.items()))
            return extract(path, directory)

        start(look).extract(str(archive), str(target))
    found = dict(line.split() for line in (target / "result").read_text().splitlines())
    version = confinement.landlock_version()
    expected = {name for name in found if version >= 2}
    expected -= {"truncate"} if version < 3 else set()
    expected -= {"connect"} if version < 4 else set()
    expected -= {"signal"} if version < 6 else set()
    assert {name for name, error in found.items() if error in ("EACCES", "EPERM", "EXDEV")} >= expected, found
    if version >= 2:
        assert canary.read_text() == "alive"


def archive_copy(directory: str) -> str:
    with open(f"{directory}/source", "w", encoding="utf-8") as file:
        file.write("x")
    return f"{directory}/source"


def test_a_worker_has_three_descriptors_and_its_reply(start: Start, archive: Path, target: Path) -> None:
    def look(path: str, directory: str) -> Kind:
        open_now = [fd for fd in range(256) if attempt(lambda: os.fstat(fd)) == "done"]  # noqa: B023
        (target / "open").write_text(str(len(open_now)))
        return Kind.EXECUTABLE

    os.pipe()
    start(look).extract(str(archive), str(target))
    assert (target / "open").read_text() == "4"


def allocate(path: str, directory: str) -> Kind:
    assert bytearray(2 * MEMORY_BYTES)
    return Kind.TAR


def spin(path: str, directory: str) -> Kind:
    while True:
        pass


def wait(path: str, directory: str) -> Kind:
    signal.pause()
    raise AssertionError("nothing wakes it")


def fill(path: str, directory: str) -> Kind:
    with open(f"{directory}/large", "wb") as file:
        file.truncate(DEFAULT.member_bytes + 1)
    return Kind.TAR


def test_too_much_memory_is_the_archives_fault(start: Start, archive: Path, target: Path) -> None:
    with pytest.raises(ArtifactFault, match="of memory"):
        start(allocate).extract(str(archive), str(target))


def test_a_file_that_is_too_large_is_not_written(start: Start, archive: Path, target: Path) -> None:
    with pytest.raises(OSError) as caught:
        start(fill).extract(str(archive), str(target))
    assert caught.value.errno == errno.EFBIG


@pytest.mark.parametrize("function", [spin, wait])
def test_what_never_ends_is_ended(
    function: Extract, start: Start, archive: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.store.unpacker._SLACK_SECONDS", 1)
    with pytest.raises(ArtifactFault, match="takes too long"):
        start(function, replace(DEFAULT, seconds=0.0)).extract(str(archive), str(target))


@pytest.mark.parametrize(
    ("number", "said", "status"), [(signal.SIGKILL, "was killed", 503), (signal.SIGSEGV, "was ended by SIGSEGV", 500)]
)
def test_a_worker_that_is_killed_is_an_answer(
    number: int, said: str, status: int, start: Start, archive: Path, target: Path
) -> None:  # fmt: skip
    def end(path: str, directory: str) -> Kind:
        os.kill(os.getpid(), number)
        return Kind.TAR

    unpacker = start(end)
    for _ in range(2):
        with pytest.raises(AgentError, match=said) as caught:
            unpacker.extract(str(archive), str(target))
        assert caught.value.status == status


def test_a_worker_with_a_bug_is_an_answer(start: Start, archive: Path, target: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def fail(path: str, directory: str) -> Kind:
        raise KeyError("a bug")

    with pytest.raises(AgentError, match="exited with code 1"):
        start(fail).extract(str(archive), str(target))
    assert "KeyError: 'a bug'" in capfd.readouterr().err


def test_many_at_once_do_not_wait_for_each_other(start: Start, archive: Path, tmp_path: Path) -> None:
    def meet(path: str, directory: str) -> Kind:
        number = int(directory[-1])
        if number < 3:  # each waits for the next one, and the last for nobody
            os.read(pipes[number][0], 1)
        if number:
            os.write(pipes[number - 1][1], b"x")
        return Kind.TAR

    pipes = [os.pipe() for _ in range(3)]
    keep = [fd for pair in pipes for fd in pair]
    unpacker = start_keeping(start, meet, keep)
    found: List[Kind] = []
    targets = [tmp_path / str(number) for number in range(4)]
    threads = []
    for target in targets:
        target.mkdir()
        threads.append(threading.Thread(target=lambda at: found.append(unpacker.extract(str(archive), at)), args=(str(target),)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for fd in keep:
        os.close(fd)
    assert found == [Kind.TAR] * 4


def start_keeping(start: Start, function: Extract, kept: List[int]) -> Unpacker:
    """An unpacker that does not close these descriptors."""
    with pytest.MonkeyPatch.context() as patch:
        closed = os.closerange
        patch.setattr(os, "closerange", lambda low, high: [closed(fd, fd + 1) for fd in range(low, high) if fd not in kept])
        return start(function)


def test_one_that_was_killed_is_replaced(
    start: Start, archive: Path, target: Path, pyz: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "argv", [pyz])
    unpacker = start()
    for number in range(2):
        server = processes.tree(os.getpid())[0]  # before its worker, if there is one
        processes.kill_hard(server)
        directory = target / str(number)
        directory.mkdir()
        assert unpacker.extract(str(archive), str(directory)) is Kind.TAR
        assert (directory / "data").stat().st_size == 3 * MIB


def waiting_workers(server: int) -> Iterator[procfs.Process]:
    """Those that have not confined themselves: no archive has come yet."""
    for worker in procfs.descendants([server], procfs.processes()):
        with contextlib.suppress(ProcessLookupError):
            if resource.prlimit(worker.pid, resource.RLIMIT_AS) == resource.getrlimit(resource.RLIMIT_AS):
                yield worker


def test_a_worker_that_was_killed_while_it_waited_is_replaced(start: Start, archive: Path, tmp_path: Path) -> None:
    unpacker = start()
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    assert unpacker.extract(str(archive), str(tmp_path / "one")) is Kind.TAR

    waiting = eventually(lambda: next(waiting_workers(unpacker._pid), None), message="the next worker")
    os.kill(waiting.pid, signal.SIGKILL)
    eventually(lambda: not procfs.is_alive(waiting.pid, waiting.start_time))
    assert unpacker.extract(str(archive), str(tmp_path / "two")) is Kind.TAR
    assert sorted(os.listdir(tmp_path / "two")) == ["data", "run.sh"]
