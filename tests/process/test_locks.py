"""The lock of a shim: it goes with its descriptor, through fork and exec, and ends with its last holder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List

import pytest

import build
from agent.host import locks
from tests.support.disk import mount, unmount

HOLD = "import sys; print('up', flush=True); sys.stdin.read()"
ASK = "import sys; from agent.host import locks; print(locks.is_held(sys.argv[1]))"
TRY = "import sys; from agent.host import locks; print(locks.acquire(sys.argv[1]) is not None)"
COUNT = """
import sys
from agent.host import locks
for _ in range(100):
    with locks.hold(sys.argv[1]):
        with open(sys.argv[2]) as file: count = int(file.read())
        with open(sys.argv[2], "w") as file: file.write(str(count + 1))
"""


def acquire(path: str) -> int:
    fd = locks.acquire(path)
    assert fd is not None
    return fd


def elsewhere(script: str, path: str) -> bool:
    """What another process says."""
    return subprocess.check_output([sys.executable, "-c", script, path], cwd=build.ROOT, text=True).strip() == "True"


class Holders:
    """Processes that were started by exec with the lock's descriptor, and do nothing but live."""

    def __init__(self) -> None:
        self.started: List[subprocess.Popen[bytes]] = []

    def start(self, *fds: int, close_fds: bool = True) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", "-S", "-c", HOLD]
        holder = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=fds, close_fds=close_fds
        )  # fmt: skip
        self.started.append(holder)
        assert holder.stdout is not None and holder.stdout.readline() == b"up\n"
        return holder


def end(holder: subprocess.Popen[bytes]) -> None:
    """Let it end by itself."""
    assert holder.stdin is not None
    holder.stdin.close()
    holder.wait()


@pytest.fixture
def holders() -> Iterator[Holders]:
    found = Holders()
    yield found
    for holder in found.started:
        holder.kill()
        with holder:
            continue


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "shim.lock")


def test_one_holds_it_and_everybody_knows(path: str) -> None:
    fd = acquire(path)
    assert locks.acquire(path) is None
    assert not elsewhere(TRY, path)
    assert locks.is_held(path) and elsewhere(ASK, path)
    os.close(fd)
    assert not locks.is_held(path) and not elsewhere(ASK, path)
    assert elsewhere(TRY, path)


def test_it_goes_through_fork_and_exec_with_its_descriptor(path: str, holders: Holders) -> None:
    fd = acquire(path)
    holder = holders.start(fd)
    os.close(fd)
    assert locks.is_held(path)
    assert locks.acquire(path) is None
    end(holder)
    assert not locks.is_held(path)


def test_kill_9_frees_it(path: str, holders: Holders) -> None:
    fd = acquire(path)
    holder = holders.start(fd)
    os.close(fd)
    assert locks.is_held(path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not locks.is_held(path)
    os.close(acquire(path))


def test_it_is_free_with_the_last_of_its_holders(path: str, holders: Holders) -> None:
    fd = acquire(path)
    first, second = holders.start(fd), holders.start(fd)
    os.close(fd)
    first.kill()
    first.wait()
    assert locks.is_held(path)
    second.kill()
    second.wait()
    assert not locks.is_held(path)


def test_a_program_that_was_not_given_the_descriptor_does_not_hold_it(path: str, holders: Holders) -> None:
    fd = acquire(path)
    holders.start(close_fds=False)
    os.close(fd)
    assert not locks.is_held(path)


def test_asking_disturbs_nothing(path: str, holders: Holders) -> None:
    fd = acquire(path)
    for _ in range(3):
        assert locks.is_held(path)  # opens and closes the file: a classic POSIX lock would be gone now
        assert locks.acquire(path) is None
        assert elsewhere(ASK, path)
    holder = holders.start(fd)
    os.close(fd)
    assert locks.is_held(path) and elsewhere(ASK, path)
    end(holder)
    assert not locks.is_held(path)


def test_asking_takes_nothing(path: str) -> None:
    os.close(acquire(path))
    assert not locks.is_held(path)
    assert elsewhere(TRY, path)


def test_an_absent_file_is_free_and_stays_absent(path: str) -> None:
    assert not locks.is_held(path)
    assert not os.path.exists(path)


def test_of_two_that_wait_for_it_one_has_it_at_a_time(path: str, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    command = [sys.executable, "-c", COUNT, path, str(counter)]
    both = [subprocess.Popen(command, cwd=build.ROOT) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert counter.read_text() == "200"
    assert not locks.is_held(path)


@pytest.mark.needs_root
def test_a_lock_taken_while_the_disk_is_read_only_counts_before_and_after(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    path = str(tmp_path / "lock")
    written = acquire(path)
    mount("--bind", str(tmp_path), str(tmp_path))
    try:
        mount("-o", "remount,bind,ro", str(tmp_path))
        with pytest.raises(OSError, match="Read-only"):
            locks.acquire(str(tmp_path / "absent"))
        assert locks.acquire(path) is None and elsewhere(ASK, path), "its holder opened it for writing"
        os.close(written)
        assert not elsewhere(ASK, path)
        held = acquire(path)
        assert elsewhere(ASK, path) and not elsewhere(TRY, path) and locks.acquire(path) is None
    finally:
        unmount(str(tmp_path))
    assert elsewhere(ASK, path) and not elsewhere(TRY, path), "the disk takes writes again"
    os.close(held)
    os.close(acquire(path))
