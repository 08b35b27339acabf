"""Secrets in the store: whole, for one user, and nothing of a project's in the way is followed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from agent.errors import Conflict
from agent.store import secrets
from agent.store.layout import ProjectLayout, StoreLayout


@pytest.fixture
def layout(tmp_path: Path) -> ProjectLayout:
    return StoreLayout(str(tmp_path)).project("web")


def test_a_secret_is_a_file_for_its_user_alone(layout: ProjectLayout) -> None:
    old = os.umask(0)
    try:
        assert secrets.put(layout, "jwt", b"one")
    finally:
        os.umask(old)
    assert not secrets.put(layout, "jwt", b"another")
    path = Path(layout.secrets, "jwt")
    assert path.read_bytes() == b"another"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(os.stat(layout.secrets).st_mode) == 0o700
    assert os.listdir(layout.store.staging) == []


def test_names_and_nothing_else(layout: ProjectLayout) -> None:
    assert secrets.names(layout) == []
    for name in ("b", "a"):
        secrets.put(layout, name, b"x")
    os.mkdir(layout.secrets + "/folder")
    os.symlink("a", layout.secrets + "/link")
    Path(layout.secrets, ".hidden").touch()
    assert secrets.names(layout) == ["a", "b"]


def test_delete(layout: ProjectLayout) -> None:
    secrets.put(layout, "jwt", b"x")
    assert secrets.delete(layout, "jwt")
    assert not secrets.delete(layout, "jwt")
    assert secrets.names(layout) == []


def test_what_a_project_put_there_is_replaced_not_followed(layout: ProjectLayout, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    os.makedirs(layout.secrets)
    os.symlink(victim, layout.secrets + "/link")
    os.link(victim, layout.secrets + "/hard")
    os.mkfifo(layout.secrets + "/fifo")
    for name in ("link", "hard", "fifo"):
        secrets.put(layout, name, b"value")
        assert stat.S_ISREG(os.lstat(f"{layout.secrets}/{name}").st_mode)
    assert victim.read_bytes() == b"untouched"
    os.mkdir(layout.secrets + "/folder")
    with pytest.raises(Conflict):
        secrets.put(layout, "folder", b"value")
    assert os.listdir(layout.store.staging) == []


def test_a_folder_of_secrets_that_is_a_link_is_not_followed(layout: ProjectLayout, tmp_path: Path) -> None:
    os.makedirs(layout.root)
    os.symlink(tmp_path, layout.secrets)
    with pytest.raises(NotADirectoryError):
        secrets.put(layout, "jwt", b"value")
    assert not (tmp_path / "jwt").exists()


def test_there_is_a_limit(layout: ProjectLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "MOST", 2)
    for name in ("a", "b", "a"):
        secrets.put(layout, name, b"x")
    with pytest.raises(Conflict, match="limit"):
        secrets.put(layout, "c", b"x")
