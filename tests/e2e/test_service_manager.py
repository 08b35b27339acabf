"""Under a service manager that speaks sd_notify(3): what it hears, whatever is killed or replaced."""

from __future__ import annotations

import socket
from typing import Iterator, List, Tuple

import pytest

from tests.support import processes
from tests.support.agent import AGENT, AgentHost
from tests.support.wait import eventually

pytestmark = pytest.mark.e2e

Managed = Tuple[AgentHost, socket.socket]


@pytest.fixture
def managed(pyz: str, python: str) -> Iterator[Managed]:
    """An agent that was started as systemd starts one, and the manager's end; a silent minute would be its end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("")  # an abstract address of the kernel's choice
        manager.settimeout(30)
        environ = {"NOTIFY_SOCKET": "@" + manager.getsockname()[1:].decode(), "WATCHDOG_USEC": "3000000"}
        with AgentHost(pyz, python, environ=environ) as host:
            yield host, manager


def sender_of(manager: socket.socket, wanted: str) -> int:
    """Wait for a message that has that line; the pid that sent it."""
    manager.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    lines: List[str] = []
    while wanted not in lines:
        data, ancillary, _, _ = manager.recvmsg(4096, socket.CMSG_SPACE(12))
        lines = data.decode().splitlines()
        pid = int.from_bytes(ancillary[0][2][:4], "little") if ancillary else 0
    return pid


def drain(manager: socket.socket) -> None:
    manager.setblocking(False)
    try:
        while True:
            manager.recv(4096)
    except BlockingIOError:
        manager.settimeout(30)


def test_the_manager_hears_of_readiness_life_and_end(managed: Managed) -> None:
    host, manager = managed
    assert host.process is not None
    assert sender_of(manager, "READY=1") in (0, host.process.pid)
    drain(manager)
    assert sender_of(manager, "WATCHDOG=1") == host.process.pid
    assert host.stop() == 0
    sender_of(manager, "STOPPING=1")


def test_whoever_replaces_a_killed_shim_goes_on_telling(managed: Managed) -> None:
    host, manager = managed
    victim = host.crash_shim(AGENT)
    shim = eventually(lambda: _other_shim(host, victim.pid), 30, "another shim")
    drain(manager)
    assert eventually(lambda: sender_of(manager, "READY=1") == shim, 30, "READY of the new shim")


def _other_shim(host: AgentHost, pid: int) -> int:
    found = processes.look(host.record(AGENT)["shim"]["pid"])
    return found.pid if found is not None and found.pid != pid else 0


def test_projects_know_nothing_of_it(managed: Managed, project: str) -> None:
    host, _ = managed
    host.launch_fixture(project, "hello")
    for process in host.project_processes(project):
        assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(processes.environment(process.pid))
