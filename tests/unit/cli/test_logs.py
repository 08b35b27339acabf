"""The text of a log tar."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any, Dict

import pytest

from agent.cli import logs
from agent.errors import Unreachable


def tar(members: Dict[str, bytes]) -> Any:
    file = io.BytesIO()
    with tarfile.open(mode="w", fileobj=file) as made:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("web/logs/output-00000009.log")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        made.addfile(link)
    file.seek(0)
    return file


def test_the_segments_come_in_the_tars_order_and_nothing_else_does() -> None:
    members = {
        "web/logs/output-00000001.log": b"one\n\xff\n",
        "web/logs/output-00000002.log": b"two\n",
        "web/record.json": b"{}",
        "web/logs/events.jsonl": b"{}\n",
        "web/files/logs/output-1.log": b"included\n",
    }
    file = io.BytesIO()
    logs.print_output(tar(members), file)
    assert file.getvalue() == b"one\n\xff\ntwo\n"


@pytest.mark.parametrize("data", [b"<html>" * 200, b"x"])
def test_what_is_no_tar_is_said(data: bytes) -> None:
    broken: Any = io.BytesIO(data)
    with pytest.raises(Unreachable, match="no tar"):
        logs.print_output(broken, io.BytesIO())


def test_pipes_and_devices_are_written_in_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert [logs._is_special(path) for path in ("/dev/null", str(tmp_path / "file"), str(tmp_path / "new"))] == [
        True, False, False,
    ]  # fmt: skip
