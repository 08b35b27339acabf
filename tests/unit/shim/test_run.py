"""What a run is called, beside those of other stores."""

from __future__ import annotations

import os
from typing import NamedTuple

import pytest

from agent.shim.run import Run
from agent.store.layout import ProjectLayout


class Folder(NamedTuple):
    """What stat(2) says of a directory."""

    st_dev: int
    st_ino: int


def test_no_two_stores_share_a_control_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small disks have the same inode numbers, and whoever ended a group would end that of both."""
    run = Run.__new__(Run)
    run.layout = ProjectLayout("/store/projects/web", "web")
    names = set()
    for folder in (Folder(1, 7), Folder(2, 7), Folder(2, 8)):
        with monkeypatch.context() as patched:
            patched.setattr(os, "stat", lambda _, found=folder: found)
            names |= {run._group_name(), run._group_name(3)}
    assert len(names) == 6
