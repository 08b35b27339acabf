"""The tar reader: ordinary archives become what they hold, hostile ones a reason and nothing outside."""

from __future__ import annotations

import dataclasses
import io
import os
import tarfile
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest

from agent.errors import ArtifactFault, StorageFull
from agent.store import artifacts, tarball
from agent.store.limits import DEFAULT, Limits
from tests.support import archives
from tests.support.archives import Archive
from tests.support.tarblocks import END, GNU, V7, header, member, pax


def folder(name: bytes) -> bytes:
    return member(name, b"5", mode=b"0000755\0")


def symlink(name: bytes, target: bytes) -> bytes:
    return member(name, b"2", link=target)


def hard_link(name: bytes, target: bytes) -> bytes:
    return member(name, b"1", link=target)


A = member(b"a", content=b"hello")

HOSTILE = [archive for archive in archives.every() if archive.file.startswith("tar")]


def extract(data: bytes, directory: Path, limits: Limits = DEFAULT) -> Dict[str, Any]:
    """Unpack below a directory of its own and say what is there: path → bytes, None (folder) or link target."""
    target = directory / "release"
    target.mkdir()
    tarball.extract(io.BytesIO(data), str(target), limits)
    return tree_of(target)


def tree_of(root: Path) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        found[name] = os.readlink(path) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
    return found


@pytest.mark.parametrize("archive", HOSTILE, ids=str)
def test_a_hostile_archive_is_refused_with_its_reason(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"outside")
    (tmp_path / "archive").write_bytes(archive.data())
    (tmp_path / "release").mkdir()
    with pytest.raises(ArtifactFault) as refused:
        artifacts.extract(str(tmp_path / "archive"), str(tmp_path / "release"))
    assert archive.refused in refused.value.detail
    assert refused.value.hint
    assert sorted(os.listdir(tmp_path)) == ["a", "archive", "release"]
    assert (tmp_path / "a").read_bytes() == b"outside"
    assert (tmp_path / "a").stat().st_nlink == 1


#: Unusual, but sound: what the archive holds → what comes out.
ORDINARY: Dict[str, Tuple[bytes, Dict[str, Any]]] = {
    "v7": (member(b"a", b"\0", b"1", magic=V7) + member(b"d/", b"\0", magic=V7) + END, {"a": b"1", "d": None}),
    "old GNU": (member(b"a", b"0", b"1", magic=GNU) + END, {"a": b"1"}),
    "ustar prefix": (
        A + member(b"f", prefix=b"long/prefix", content=b"1") + END,
        {"a": b"hello", "long": None, "long/prefix": None, "long/prefix/f": b"1"},
    ),
    "GNU header's other fields are no prefix": (
        A + member(b"f", magic=GNU, prefix=b"atime") + END,
        {"a": b"hello", "f": b""},
    ),
    "folders named again": (
        folder(b"./") + folder(b"d/") + A + folder(b"./d") + folder(b".") + END,
        {"a": b"hello", "d": None},
    ),
    "folders not named": (A + member(b"x/y/z") + END, {"a": b"hello", "x": None, "x/y": None, "x/y/z": b""}),
    "base-256 size": (
        A + header(b"b", size_field=b"\x80" + bytes(10) + b"\1") + b"!" + bytes(511) + END,
        {"a": b"hello", "b": b"!"},
    ),
    "size with spaces": (header(b"a", size_field=b"          1 ") + b"!" + bytes(511) + END, {"a": b"!"}),
    "pax times, owners and attributes": (
        pax(
            (b"mtime", b"1.5"),
            (b"atime", b"-1"),
            (b"ctime", b"2"),
            (b"uid", b"0"),
            (b"SCHILY.xattr.user.a", b"\0"),
            (b"LIBARCHIVE.creationtime", b"1"),
        )
        + A
        + END,
        {"a": b"hello"},
    ),
    "pax size that agrees": (pax((b"size", b"5")) + A + END, {"a": b"hello"}),
    "pax size alone": (pax((b"size", b"1")) + header(b"a") + b"!" + bytes(511) + END, {"a": b"!"}),
    "git's comment": (pax((b"comment", b"c0ffee"), kind=b"g") + A + END, {"a": b"hello"}),
    "GNU long name and link": (
        A
        + member(b"K", b"K", b"a\0", magic=GNU)
        + member(b"L", b"L", b"n" * 120 + b"\0", magic=GNU)
        + member(b"n" * 100, b"2", link=b"wrong", magic=GNU)
        + END,
        {"a": b"hello", "n" * 120: "a"},
    ),
    "hard link": (A + hard_link(b"h", b"./a") + END, {"a": b"hello", "h": b"hello"}),
    "hard link to a hard link": (
        A + hard_link(b"h", b"a") + hard_link(b"i", b"h") + END,
        {"a": b"hello", "h": b"hello", "i": b"hello"},
    ),
    "symlinks inside": (
        A + symlink(b"d/up", b"../a") + symlink(b"later", b"d/x") + symlink(b"here", b".") + symlink(b"e", b"here/d") + END,
        {"a": b"hello", "d": None, "d/up": "../a", "later": "d/x", "here": ".", "e": "here/d"},
    ),
    "names that differ in case": (A + member(b"A") + END, {"a": b"hello", "A": b""}),
    "UTF-8": (member("é".encode()) + END, {"é": b""}),
    "one folder": (folder(b"top/") + member(b"top/a") + member(b"top/d/b") + END, {"a": b"", "d": None, "d/b": b""}),
    "one folder, not named": (member(b"./top/a") + END, {"a": b""}),
    "one folder with its own name in it": (
        member(b"top/top/x") + member(b"top/.top-0") + END,
        {"top": None, "top/x": b"", ".top-0": b""},
    ),
    "one folder with links": (
        member(b"top/a") + symlink(b"top/d/l", b"../a") + hard_link(b"top/h", b"top/a") + END,
        {"a": b"", "d": None, "d/l": "../a", "h": b""},
    ),
    "one folder in one folder": (member(b"top/in/a") + END, {"in": None, "in/a": b""}),
    "one folder beside a file": (member(b"top/a") + A + END, {"top": None, "top/a": b"", "a": b"hello"}),
    "one folder beside a symlink": (
        member(b"top/a") + symlink(b"l", b"top") + END,
        {"top": None, "top/a": b"", "l": "top"},
    ),
    "padding to a record": (A + END + bytes(10240), {"a": b"hello"}),
}


@pytest.mark.parametrize("case", ORDINARY)
def test_an_unusual_but_sound_archive_is_unpacked(case: str, tmp_path: Path) -> None:
    data, expected = ORDINARY[case]
    assert extract(data, tmp_path) == expected


def test_modes_are_two_whatever_the_archive_and_the_umask_say(tmp_path: Path) -> None:
    data = member(b"setuid", mode=b"0006755\0") + member(b"read", mode=b"0000444\0") + folder(b"d/") + END
    before = os.umask(0o077)
    try:
        extract(data, tmp_path)
    finally:
        os.umask(before)
    modes = {path.name: oct(path.stat().st_mode & 0o7777) for path in (tmp_path / "release").iterdir()}
    assert modes == {"setuid": "0o755", "read": "0o644", "d": "0o755"}


@pytest.mark.parametrize("variant", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_tarfile_writes_is_unpacked(variant: int, tmp_path: Path) -> None:
    deep = "/".join(["folder"] * 20)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=variant) as archive:
        for name, kind, link in (
            ("run.sh", tarfile.REGTYPE, ""),
            (f"{deep}/ü", tarfile.REGTYPE, ""),
            ("l", tarfile.SYMTYPE, "run.sh"),
            ("h", tarfile.LNKTYPE, "run.sh"),
            ("empty", tarfile.DIRTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mtime = kind, link, 1.5 if variant == tarfile.PAX_FORMAT else 1
            info.size = 3 if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"abc"))
    found = extract(stream.getvalue(), tmp_path)
    assert found["run.sh"] == found["h"] == found[f"{deep}/ü"] == b"abc"
    assert (found["l"], found["empty"]) == ("run.sh", None)


@pytest.mark.parametrize(
    ("change", "data", "reason"),
    [
        ({"entries": 2}, A + member(b"b") + member(b"c") + END, "more than 2 entries"),
        ({"entries": 3}, A + member(b"b/c/d/e") + END, "more than 3 entries"),
        ({"entries": 3}, A + folder(b".") * 4 + END, "more than 3 entries"),
        ({"entries": 1}, pax((b"comment", b"x"), kind=b"g") * 9 + A + END, "more than 3 headers"),
        ({"member_bytes": 4}, A + END, "'a' is larger than 4 bytes"),
        ({"total_bytes": 9}, A + member(b"b", content=b"hello") + END, "more than 9 bytes"),
        ({"seconds": -1.0}, A + END, "not unpacked within"),
        ({"entries": 5, "depth": 2}, A + b"".join(symlink(b"%d" % n, b"././././.") for n in range(3)) + END, "circles"),
    ],
)
def test_limits_are_kept(change: Dict[str, Any], data: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactFault, match=reason):
        extract(data, tmp_path, dataclasses.replace(DEFAULT, **change))


def test_the_reserve_of_the_disk_is_kept(tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match="Unpacking needs 5 bytes more"):
        extract(A + END, tmp_path, dataclasses.replace(DEFAULT, reserve_bytes=1 << 60))


def test_many_folders_do_not_use_up_the_descriptors(tmp_path: Path) -> None:
    members = b"".join(member(b"d%d/e/f" % n) + symlink(b"d%d/l" % n, b"e") for n in range(300))
    before = len(os.listdir("/proc/self/fd"))
    assert len(extract(members + END, tmp_path)) == 300 * 4
    assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_is_written_over_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "a").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        tarball.extract(io.BytesIO(A + END), str(tmp_path / "release"))
    assert (tmp_path / "release" / "a").read_bytes() == b"mine"
