"""The artifact's `.env`: what its lines mean, and which one is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import ArtifactFault
from agent.store import entrypoint


def write(directory: Path, data: bytes) -> None:
    (directory / ".env").write_bytes(data)


def test_dotenv_is_read(tmp_path: Path) -> None:
    write(
        tmp_path,
        b"\n".join(
            [
                b"# comment",
                b"",
                b"PLAIN=a b",
                b"export EXPORTED=1",
                b"  SPACED = x  ",
                b"EMPTY=",
                b"CRLF=1\r",
                b"TRAIL=a # b",
                b"HASH=a#b",
                b"ONLY=#c",
                b"SINGLE='a # \\n $X'",
                b'DOUBLE="a\\n\\"b\\"\\\\ $X \\$ \\q" # comment',
                b"TWICE=1",
                b"TWICE=2",
                "UTF=é".encode(),
                b"EQUALS=a=b",
            ]
        ),
    )
    assert entrypoint.read_dotenv(str(tmp_path)) == {
        "PLAIN": "a b",
        "EXPORTED": "1",
        "SPACED": "x",
        "EMPTY": "",
        "CRLF": "1",
        "TRAIL": "a",
        "HASH": "a#b",
        "ONLY": "",
        "SINGLE": "a # \\n $X",
        "DOUBLE": 'a\n"b"\\ $X $ \\q',
        "TWICE": "2",
        "UTF": "é",
        "EQUALS": "a=b",
    }


def test_without_dotenv_there_are_no_variables(tmp_path: Path) -> None:
    assert entrypoint.read_dotenv(str(tmp_path)) == {}


@pytest.mark.parametrize(
    "line",
    [
        b"hunter2",
        b"=hunter2",
        b"A-B=hunter2",
        b"1A=hunter2",
        b"A='hunter2",
        b'A="hunter2\\"',
        b"A='a' hunter2",
        b"A=hunter2\0",
        b"A=hunter2\xff",
    ],
)
def test_a_bad_line_of_dotenv_is_named_without_its_value(line: bytes, tmp_path: Path) -> None:
    write(tmp_path, b"OK=1\n" + line + b"\n")
    with pytest.raises(ArtifactFault) as refused:
        entrypoint.read_dotenv(str(tmp_path))
    assert ".env: line 2 " in refused.value.detail
    assert "hunter2" not in refused.value.detail
