"""A draft counts at once and until the host is restarted; settled, it lasts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, List

import pytest

from agent.host import drafts, files, procfs

OTHER_BOOT = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "want.json")


def without_boot(document: Any) -> Any:
    return {name: value for name, value in document.items() if name != "boot_id"}


def draft_of_another_boot(path: str) -> None:
    files.write_json(path + drafts.SUFFIX, {"new": True, "boot_id": OTHER_BOOT})


def test_there_is_nothing_before_the_first(path: str) -> None:
    assert drafts.read(path) is None
    assert drafts.pending(path) is None
    drafts.settle(path)
    assert not os.path.exists(path)


def test_a_draft_is_read_in_place_of_the_file_which_stays_as_it_was(path: str) -> None:
    files.write_json(path, {"new": False})
    drafts.write(path, {"new": True})
    assert without_boot(drafts.read(path)) == {"new": True}
    assert json.loads(Path(path).read_text()) == {"new": False}


def test_a_settled_draft_is_the_file(path: str, tmp_path: Path) -> None:
    files.write_json(path, {"new": False})
    drafts.write(path, {"new": True})
    drafts.settle(path)
    assert os.listdir(tmp_path) == ["want.json"]
    assert without_boot(json.loads(Path(path).read_text())) == {"new": True}
    assert drafts.pending(path) is None


@pytest.mark.parametrize("torn", [b"", b"\0" * 40, b'{"new": tr', b"[]"])
def test_what_a_power_cut_tore_counts_for_nothing(path: str, torn: bytes) -> None:
    files.write_json(path, {"new": False})
    Path(path + drafts.SUFFIX).write_bytes(torn)
    drafts.settle(path)
    assert drafts.read(path) == {"new": False} == json.loads(Path(path).read_text())


def test_what_was_drafted_before_a_restart_of_the_host_counts_for_nothing(path: str) -> None:
    files.write_json(path, {"new": False})
    draft_of_another_boot(path)
    drafts.settle(path)
    assert drafts.read(path) == {"new": False} == json.loads(Path(path).read_text())


def test_a_draft_takes_the_place_of_one_of_another_boot(path: str) -> None:
    draft_of_another_boot(path)
    drafts.write(path, {"new": 2})
    assert without_boot(drafts.read(path)) == {"new": 2}


def test_the_bytes_are_on_the_disk_before_the_name_is(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done: List[str] = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(fd: int) -> None:
        done.append("fsync " + os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        fsync(fd)

    def note_rename(source: str, destination: str) -> None:
        done.append("rename to " + os.path.basename(destination))
        rename(source, destination)

    drafts.write(path, {"new": True})
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    drafts.settle(path)
    assert done == ["fsync want.json.draft", "rename to want.json", f"fsync {os.path.basename(os.path.dirname(path))}"]


def test_file_and_draft_are_removed_together(path: str, tmp_path: Path) -> None:
    files.write_json(path, {})
    drafts.write(path, {})
    drafts.remove(path)
    drafts.remove(path)
    assert os.listdir(tmp_path) == []


def test_a_boot_has_one_id() -> None:
    assert procfs.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
