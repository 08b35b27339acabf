"""Control groups: what is written where, on a folder that stands in for the kernel's tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.host import cgroups


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A group that the host gave us, with memory and pids, not cpu."""
    monkeypatch.setattr(cgroups, "own_group", lambda: str(tmp_path))
    (tmp_path / "cgroup.controllers").write_text("memory pids hugetlb\n")
    ours = tmp_path / "ant-host-agent"
    for group in (tmp_path, ours, ours / "7-web"):
        group.mkdir(exist_ok=True)
        for file in ("cgroup.procs", "cgroup.subtree_control"):
            (group / file).write_text("")
    for file in ("memory.max", "pids.max"):
        (ours / "7-web" / file).write_text("")
    return tmp_path


def test_settings_are_written(base: Path) -> None:
    path = cgroups.create("7-web", {"memory.max": "4096", "memory.swap.max": "0", "pids.max": "5"})
    assert path == f"{base}/ant-host-agent/7-web"
    assert Path(path, "memory.max").read_text() == "4096"
    assert Path(path, "pids.max").read_text() == "5"


def test_a_setting_that_the_kernel_lacks_is_no_group(base: Path) -> None:
    assert cgroups.create("7-web", {"cpu.max": "50000 100000"}) is None


def test_a_kernel_without_swap_needs_no_limit_of_it(base: Path) -> None:
    assert cgroups.create("7-web", {"memory.swap.max": "0", "memory.oom.group": "1"}) is not None


def test_controllers_are_handed_on_at_both_levels(base: Path) -> None:
    assert cgroups.enable(["memory"], list) == []
    for group in (base, base / "ant-host-agent"):
        assert (group / "cgroup.subtree_control").read_text() == "+memory"


def test_a_controller_that_the_host_does_not_have_is_named(base: Path) -> None:
    assert cgroups.enable(["cpu", "memory"], list) == ["cpu"]


def test_without_a_tree_nothing_can_be_enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "own_group", lambda: None)
    assert cgroups.enable(["memory"], list) == ["memory"]
    assert cgroups.create("7-web") is None
    assert not cgroups.offers("memory")


@pytest.mark.parametrize(("text", "kills"), [("low 0\noom 3\noom_kill 2\noom_group_kill 1\n", 2), ("oom_kill 0\n", 0), ("", 0)])
def test_kills_for_memory_are_counted(text: str, kills: int, tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text(text)
    assert cgroups.oom_kills(str(tmp_path)) == kills


def test_a_group_that_is_gone_has_no_kills(tmp_path: Path) -> None:
    assert cgroups.oom_kills(str(tmp_path / "gone")) == 0
