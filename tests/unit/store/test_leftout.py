"""An artifact that came in part is whole again, byte for byte, or refused; a running project can't lead it astray."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.errors import ArtifactFault, Conflict, MalformedRequest
from agent.host import files
from agent.model import Release
from agent.store import leftout, releases
from agent.store.decompress import compression
from agent.store.layout import ProjectLayout

BIG = bytes(range(256)) * 3000


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def layout(tmp_path: Path) -> ProjectLayout:
    found = ProjectLayout(str(tmp_path / "web"), "web")
    files.make_directory(found.root)
    return found


def add(layout: ProjectLayout, version: str, **content: bytes) -> Path:
    folder = Path(layout.release(version))
    (folder / "lib").mkdir(parents=True)
    for name, data in content.items():
        (folder / "lib" / name).write_bytes(data)
    releases.commit(layout, Release("web", version, "0" * 64, 0, ("run",), received_at=version))
    return folder / "lib"


def assemble(layout: ProjectLayout, rest: bytes, left_out: Sequence[leftout.Stretch]) -> Tuple[bytes, Tuple[str, int]]:
    source, target = layout.root + "/rest", layout.root + "/whole"
    Path(source).write_bytes(rest)
    files.remove_if_present(target)
    told = leftout.assemble(layout, source, left_out, target)
    return Path(target).read_bytes(), told


def test_files_are_found_by_what_is_in_them_in_any_release(layout: ProjectLayout) -> None:
    old, new = add(layout, "1", a=b"one", b=b"two"), add(layout, "2", a=b"one", c=b"three")
    wanted = [(3, digest(b"one")), (3, digest(b"two")), (5, digest(b"three")), (4, digest(b"four")), (9, digest(b"one"))]
    assert leftout.held(layout, wanted) == {
        digest(b"one"): str(new / "a"), digest(b"two"): str(old / "b"), digest(b"three"): str(new / "c"),
    }  # fmt: skip


def test_what_is_no_file_of_the_release_is_not_read(layout: ProjectLayout, tmp_path: Path) -> None:
    folder = add(layout, "1", a=b"one")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    (folder / "link").symlink_to(tmp_path / "outside" / "secret")
    (folder / "folder").symlink_to(tmp_path / "outside")
    os.mkfifo(folder / "pipe")
    assert leftout.held(layout, [(6, digest(b"secret")), (0, digest(b""))]) == {}


@given(st.lists(st.tuples(st.binary(max_size=20), st.booleans()), max_size=8), st.booleans())
def test_whole_again_whatever_was_left_out(tmp_path_factory: pytest.TempPathFactory, pieces: Any, is_packed: bool) -> None:
    layout = ProjectLayout(str(tmp_path_factory.mktemp("web")), "web")
    known = {f"f{index}": data for index, (data, is_left_out) in enumerate(pieces) if is_left_out}
    add(layout, "1", **known)
    rest, left_out, at = b"", [], 0
    for data, is_left_out in pieces:
        if is_left_out:
            left_out.append((at, len(data), digest(data)))
        else:
            rest += data
        at += len(data)
    assume(is_packed or compression(rest) is None)  # what looks compressed is
    whole = b"".join(data for data, _ in pieces)
    assume(is_packed or compression(rest) is None)  # no tar begins so: its first member would be called like that
    assert assemble(layout, gzip.compress(rest) if is_packed else rest, left_out) == (whole, (digest(whole), len(whole)))


def test_it_is_a_copy(layout: ProjectLayout) -> None:
    folder = add(layout, "1", big=BIG)
    whole, _ = assemble(layout, b"headtail", [(4, len(BIG), digest(BIG))])
    assert whole == b"head" + BIG + b"tail"
    assert os.stat(layout.root + "/whole").st_nlink == os.stat(folder / "big").st_nlink == 1


def test_what_the_project_changed_is_lacking(layout: ProjectLayout) -> None:
    folder = add(layout, "1", big=BIG)
    (folder / "big").write_bytes(BIG[::-1])
    with pytest.raises(Conflict, match="does not have 1 of the 1 files") as refused:
        assemble(layout, b"", [(0, len(BIG), digest(BIG))])
    assert refused.value.members["lacking"] == [digest(BIG)]
    assert not os.path.exists(layout.root + "/whole")


def test_an_offset_behind_the_end(layout: ProjectLayout) -> None:
    add(layout, "1", a=b"one")
    with pytest.raises(ArtifactFault, match="cut short"):
        assemble(layout, b"rest", [(5, 3, digest(b"one"))])


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({}, "no list"), ([1], r"\[0\]"), ([[0, 1]], r"\[0\]"), ([[True, 1, "ab" * 32]], r"\[0\]"),
        ([[0, -1, "ab" * 32]], r"\[0\]"),
        ([[0, 5, "ab" * 32], [4, 1, "ab" * 32]], r"\[1\]"), ([[0, 1 << 60, "ab" * 32]], r"\[0\]"), ([[0, 1, "xy"]], "sha256"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_stretches(value: object, named: Optional[str]) -> None:
    with pytest.raises(MalformedRequest, match=named):
        leftout.parse(value)


def test_stretches_may_touch_and_be_empty() -> None:
    value: List[Any] = [[0, 0, "ab" * 32], [0, 5, "AB" * 32], [5, 1, "cd" * 32]]
    assert leftout.parse(value) == [(0, 0, "ab" * 32), (0, 5, "ab" * 32), (5, 1, "cd" * 32)]
