"""Control groups on the kernel's own tree."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest

from agent.host import cgroups
from tests.support.wait import eventually

pytestmark = pytest.mark.needs_root


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A group of the test's own, as a service gets one, with whatever controller there is."""
    base = cgroups.own_group()
    available = (Path(str(base)) / "cgroup.controllers").read_text().split() if base else []
    if base is None or not available or not os.access(base, os.W_OK):
        pytest.skip("needs a writable cgroup v2 tree")
    controller = available[-1]
    subtree = Path(base, "cgroup.subtree_control")
    before = controller in subtree.read_text().split()
    try:
        subtree.write_text(f"+{controller}")
    except OSError:
        pytest.skip("needs a writable cgroup v2 tree")
    path = Path(base, f"ant-test-{os.getpid()}")
    path.mkdir()
    monkeypatch.setattr(cgroups, "own_group", lambda: str(path))
    yield path
    for inner in ("ant-host-agent/self", "ant-host-agent/web", "ant-host-agent", "."):
        if (path / inner).exists():
            eventually(lambda: not cgroups.members(str(path / inner)), 20, "the group empties")  # noqa: B023
            (path / inner).rmdir()
    if not before:
        subtree.write_text(f"-{controller}")


@pytest.fixture
def inside(group: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in that group."""
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:
        assert cgroups.enter(str(group), process.pid)
        yield process
        process.kill()


def test_our_own_processes_make_room_for_controllers(group: Path, inside: subprocess.Popen[bytes]) -> None:
    controller = (group / "cgroup.controllers").read_text().split()[-1]
    assert cgroups.enable([controller], lambda: [inside.pid]) == []
    assert cgroups.members(str(group)) == []
    assert cgroups.members(str(group / "ant-host-agent/self")) == [inside.pid]
    web = cgroups.create("web")
    assert web is not None
    assert controller in Path(web, "cgroup.controllers").read_text().split()


def test_processes_of_others_stay_where_they_are(group: Path, inside: subprocess.Popen[bytes]) -> None:
    controller = (group / "cgroup.controllers").read_text().split()[-1]
    assert cgroups.enable([controller], list) == [controller]
    assert cgroups.members(str(group)) == [inside.pid]
