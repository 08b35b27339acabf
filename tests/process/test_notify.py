"""What a service manager hears, over a socket as systemd has one."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Iterator

import pytest

from agent.host.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        yield receiver


def heard(manager: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(manager.recv(4096).decode())
        except BlockingIOError:
            return messages


def of(manager: socket.socket, **environ: str) -> Notifier:
    return Notifier.of({"NOTIFY_SOCKET": manager.getsockname(), **environ})


def test_each_change_is_told_at_once_and_otherwise_it_waits_for_its_time(manager: socket.socket) -> None:
    notifier = of(manager, WATCHDOG_USEC="3600000000")
    for is_ready in (False, False, True, True):
        notifier.beat(is_ready)
    notifier.stopping()
    notifier.beat(True)
    assert heard(manager) == ["WATCHDOG=1", "READY=1\nWATCHDOG=1", "STOPPING=1\nWATCHDOG=1"]
    notifier.due = 0.0
    assert notifier.beat(False) > 0.0
    assert heard(manager) == ["STOPPING=1\nWATCHDOG=1"]


def test_without_a_watchdog_only_the_state_is_told(manager: socket.socket) -> None:
    notifier = of(manager)
    notifier.beat(True)
    assert heard(manager) == ["READY=1"]


def test_what_could_not_be_said_is_said_again(manager: socket.socket, tmp_path: Path) -> None:
    notifier = Notifier(str(tmp_path / "later"))
    notifier.beat(True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as later:
        later.bind(str(tmp_path / "later"))
        later.setblocking(False)
        notifier.beat(True)
        assert heard(later) == ["READY=1"]


def test_a_full_queue_is_no_reason_to_wait(manager: socket.socket) -> None:
    notifier = of(manager)
    while notifier.send("READY=1"):
        continue
    assert heard(manager)[0] == "READY=1"
    assert notifier.send("READY=1")


def test_an_abstract_address() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("")  # the kernel chooses one, abstract (unix(7), autobind)
        receiver.settimeout(30)
        notifier = Notifier.of({"NOTIFY_SOCKET": "@" + receiver.getsockname()[1:].decode()})
        assert notifier.send("MAINPID=7", "READY=1")
        assert receiver.recv(100) == b"MAINPID=7\nREADY=1"


def test_a_successor_is_told_the_same_but_for_the_pid() -> None:
    environ = {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7", "LANG": "C"}
    assert Notifier.of(environ).environment == {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "60000000"}


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "relative"}, {"NOTIFY_SOCKET": ""}, {"WATCHDOG_USEC": "5"}])
def test_without_a_manager_nothing_is_sent(environ: dict[str, str]) -> None:
    notifier = Notifier.of(environ)
    assert not notifier
    assert notifier.beat(True) == 0.0
    assert notifier.environment == {}


def test_a_watchdog_time_that_is_no_number_is_none(manager: socket.socket) -> None:
    assert of(manager, WATCHDOG_USEC="soon").environment == {"NOTIFY_SOCKET": manager.getsockname()}
