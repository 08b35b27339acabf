"""Staging: who owns an entry, and that what nobody owns any more goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.host import procfs
from agent.store import staging
from agent.store.layout import StoreLayout


@pytest.fixture
def store(tmp_path: Path) -> StoreLayout:
    """An empty store."""
    return StoreLayout(str(tmp_path))


def test_a_path_names_its_owner_and_is_new_each_time(store: StoreLayout) -> None:
    path = staging.new_path(store, ".upload")
    pid, started, rest = os.path.basename(path).split("-")
    assert (int(pid), int(started)) == (os.getpid(), procfs.start_time(os.getpid()))
    assert rest.endswith(".upload") and staging.new_path(store, ".upload") != path
    assert os.stat(store.staging).st_mode & 0o777 == 0o700
    assert os.listdir(store.staging) == []


def test_what_a_dead_process_left_is_removed_and_nothing_else(store: StoreLayout) -> None:
    mine = staging.new_path(store)
    Path(mine).write_bytes(b"x")
    started = procfs.start_time(os.getpid()) or 0
    dead = [f"{os.getpid()}-{started - 1}-{'0' * 16}", f"4194999-1-{'a' * 16}.upload", f"4194999-2-{'b' * 16}"]
    for name in dead[:2]:
        (Path(store.staging) / name).write_bytes(b"x")
    locked = Path(store.staging) / dead[2] / "a" / "b"
    locked.mkdir(parents=True)
    (locked / "file").write_bytes(b"x")
    (Path(store.staging) / "not-ours").write_bytes(b"x")
    locked.chmod(0)
    locked.parent.chmod(0o500)
    assert sorted(staging.sweep(store)) == sorted(dead)
    assert sorted(os.listdir(store.staging)) == sorted([os.path.basename(mine), "not-ours"])


def test_a_link_is_removed_and_not_what_it_points_to(store: StoreLayout, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o755)
    (target / "file").write_bytes(b"x")
    os.mkdir(store.staging)
    directory = Path(store.staging) / f"4194999-1-{'a' * 16}"
    directory.mkdir()
    (directory / "link").symlink_to(target)
    (Path(store.staging) / f"4194999-1-{'b' * 16}").symlink_to(target)
    assert len(staging.sweep(store)) == 2
    assert (target / "file").exists() and target.stat().st_mode & 0o777 == 0o755


def test_no_staging_is_nothing_to_sweep(store: StoreLayout) -> None:
    assert staging.sweep(store) == []


def test_what_is_in_a_grave_is_swept_at_once(tmp_path: Path) -> None:
    store = StoreLayout(str(tmp_path))
    grave = staging.grave_path(store)
    os.makedirs(grave + "/releases")
    assert staging.sweep(store) == [os.path.basename(grave)]
    assert os.listdir(store.staging) == []
