"""A folder becomes the same bytes wherever and whenever it is packed."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from agent.cli.pack import pack
from agent.errors import ArtifactFault


def packed(folder: Path) -> bytes:
    file = io.BytesIO()
    pack(str(folder), file)
    return file.getvalue()


def make(folder: Path, order: list[str]) -> Path:
    for name in order:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (folder / "run.sh").chmod(0o775)
    (folder / "link").symlink_to("lib/a")
    os.link(folder / "lib/a", folder / "lib/hard")
    return folder


def test_same_files_same_bytes(tmp_path: Path) -> None:
    one = make(tmp_path / "one", ["run.sh", "lib/a", "lib/b"])
    two = make(tmp_path / "two", ["lib/b", "lib/a", "run.sh"])
    (two / "run.sh").chmod(0o755)
    os.utime(two / "lib/a", (1, 1))
    (two / ".git").mkdir()
    (two / "lib/__pycache__").mkdir()
    assert packed(one) == packed(two)


def test_what_is_inside(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(packed(make(tmp_path / "f", ["run.sh", "lib/a"])))) as tar:
        members = tar.getmembers()
        content = tar.extractfile("lib/hard")
        assert content is not None and content.read() == b"lib/a"
    assert [member.name for member in members] == ["lib", "lib/a", "lib/hard", "link", "run.sh"]
    assert [oct(member.mode) for member in members] == ["0o755", "0o644", "0o644", "0o755", "0o755"]
    assert {(member.mtime, member.uid, member.uname) for member in members} == {(0, 0, "")}
    assert members[3].issym() and members[3].linkname == "lib/a"
    assert members[2].isreg()


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtifactFault, match="pipe"):
        packed(tmp_path)


def test_a_dangling_link_is_kept_for_the_agent_to_judge(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    with tarfile.open(fileobj=io.BytesIO(packed(tmp_path))) as tar:
        assert tar.getmember("dangling").issym()
