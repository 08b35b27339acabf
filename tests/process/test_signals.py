"""Signals reach the very process that was meant, or nobody; and a program starts with none ignored or blocked."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from typing import Iterator, Optional

import pytest

from agent.host import procfs, signals
from tests.support import processes
from tests.support.wait import eventually

WITHOUT_PIDFDS = "without pidfds"
KILLS_ITSELF = "kill -{0} $$; echo ignored"


@pytest.fixture(params=["with pidfds", WITHOUT_PIDFDS], autouse=True)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """This kernel's way, and that of one before 5.3."""
    if request.param == WITHOUT_PIDFDS:
        monkeypatch.delattr(os, "pidfd_open")


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


def start_time(pid: int) -> int:
    found = processes.look(pid)
    assert found is not None
    return found.start_time


def test_the_process_that_is_meant_gets_it(victim: subprocess.Popen[bytes]) -> None:
    assert signals.send(victim.pid, start_time(victim.pid), signal.SIGTERM)
    assert victim.wait() == -signal.SIGTERM


@pytest.mark.parametrize("too_late", [1, -1, 10**6])
def test_another_process_with_that_pid_gets_nothing(victim: subprocess.Popen[bytes], too_late: int) -> None:
    started = start_time(victim.pid)
    assert not signals.send(victim.pid, started + too_late, signal.SIGKILL)
    # had it been sent, it would be the one to end it: signals to one process are not overtaken by later ones
    assert signals.send(victim.pid, started, signal.SIGTERM)
    assert victim.wait() == -signal.SIGTERM


def test_a_zombie_is_dead(victim: subprocess.Popen[bytes]) -> None:
    started = start_time(victim.pid)
    victim.kill()
    os.waitid(os.P_PID, victim.pid, os.WEXITED | os.WNOWAIT)
    assert not signals.send(victim.pid, started, signal.SIGTERM)
    assert signals.open_pidfd(victim.pid, started) is None


def test_what_is_gone_is_told(victim: subprocess.Popen[bytes]) -> None:
    started = start_time(victim.pid)
    victim.kill()
    victim.wait()
    assert not signals.send(victim.pid, started, signal.SIGTERM)


@pytest.mark.parametrize("pid", [1, 0, -1, -2])
def test_neither_init_nor_a_group_is_ever_signalled(pid: int) -> None:
    started = procfs.start_time(1) or 0
    with pytest.raises(ValueError, match=str(pid)):
        signals.send(pid, started, 0)  # and if it were sent, it would harm nobody


def test_a_descriptor_is_had_for_the_very_process_only(victim: subprocess.Popen[bytes]) -> None:
    started = start_time(victim.pid)
    before = set(os.listdir("/proc/self/fd"))
    assert signals.open_pidfd(victim.pid, started + 1) is None
    assert signals.send(victim.pid, started, signal.SIGCONT)
    assert set(os.listdir("/proc/self/fd")) == before


# ---------------------------------------------------------------------- the state a fresh program expects


@pytest.fixture
def mask() -> Iterator[None]:
    """A parent that blocks a signal and ignores another, as well as the two that Python ignores itself."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    hang_up = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, hang_up)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def shell(script: str, is_restored: bool) -> str:
    """What a shell prints that was started as Python leaves it, or with everything restored."""
    done = subprocess.run(
        ["/bin/sh", "-c", script], stdout=subprocess.PIPE, text=True, restore_signals=False, check=False,
        preexec_fn=signals.restore_defaults if is_restored else None,
    )  # fmt: skip
    return f"{done.returncode} {done.stdout.strip()}"


@pytest.mark.usefixtures("mask")
@pytest.mark.parametrize("name", ["PIPE", "XFSZ", "HUP", "USR2"])
def test_a_restored_child_is_ended_by_what_its_parent_does_not_hear(name: str) -> None:
    number = signal.Signals["SIG" + name].value
    assert shell(KILLS_ITSELF.format(name), is_restored=False) == "0 ignored"
    assert shell(KILLS_ITSELF.format(name), is_restored=True) == f"-{number} "


@pytest.mark.usefixtures("mask")
def test_a_restored_child_ignores_and_blocks_nothing() -> None:
    status = shell("exec cat /proc/self/status", is_restored=True)
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if line.startswith("Sig") and "Q:" not in line)
    assert {name: int(value, 16) for name, value in fields.items() if name in ("SigBlk", "SigIgn", "SigCgt")} == {
        "SigBlk": 0, "SigIgn": 0, "SigCgt": 0,
    }  # fmt: skip


# ---------------------------------------------------------------------- hearing them


LISTENS = """
import os, select, signal, sys
from agent.host import signals
noted = []
reader = signals.listen((signal.SIGUSR1, signal.SIGTERM), lambda number, frame: noted.append(number))
print("listening", flush=True)
while signal.SIGTERM not in noted:
    select.select([reader], [], [])
    os.read(reader, 100)
print(*noted, flush=True)
"""


def read_line(process: subprocess.Popen[bytes]) -> Optional[bytes]:
    assert process.stdout is not None
    return process.stdout.readline()


def test_who_polls_the_descriptor_misses_no_signal() -> None:
    process = subprocess.Popen([sys.executable, "-c", LISTENS], stdout=subprocess.PIPE)
    assert read_line(process) == b"listening\n"
    for number in (signal.SIGHUP, signal.SIGUSR1):  # the first is ignored
        process.send_signal(number)
    eventually(lambda: not pending(process.pid), message="SIGUSR1 is delivered")
    process.send_signal(signal.SIGTERM)
    assert process.communicate()[0] == b"%d %d\n" % (signal.SIGUSR1, signal.SIGTERM)
    assert process.returncode == 0


def pending(pid: int) -> bool:
    """Whether a signal is on its way to that process."""
    status = processes.status(pid)
    return int(status["ShdPnd"], 16) | int(status["SigPnd"], 16) != 0


def test_a_signal_that_came_before_the_poll_wakes_it() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGHUP)}
    reader = signals.listen((signal.SIGUSR1,), lambda number, frame: None)
    os.kill(os.getpid(), signal.SIGUSR1)
    readable, _, _ = select.select([reader], [], [], 0)
    assert readable == [reader]
    os.close(signal.set_wakeup_fd(-1))
    os.close(reader)
    for number, handler in before.items():
        signal.signal(number, handler)
