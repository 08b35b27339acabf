"""The zip reader: members tile the file and both headers agree, or the whole zip is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import random
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest

from agent.errors import ArtifactFault
from agent.store import zipball
from agent.store.limits import DEFAULT, Limits
from tests.support import archives
from tests.support.zipblocks import FIFO, FOLDER, Member, field, make

A = Member()
CRC = zlib.crc32(b"hello")
HOSTILE = {str(archive): (archive.data(), archive.refused) for archive in archives.every() if archive.file == "zip"}
#: What no list of members says: a zip in a zip, and a zip64 field with more than there is.
HOSTILE["a zip quoted in a member (CVE-2024-0450)"] = (
    make(Member(content=make(Member(b"b"))), Member(b"b", offset=31)), "does not begin where",
)  # fmt: skip
HOSTILE["zip64 field with more than there is"] = (make(Member(extra=field(1, struct.pack("<QQQQ", 5, 5, 0, 0)))), "zip64 field")


def extract(data: bytes, directory: Path, limits: Limits = DEFAULT) -> Dict[str, Any]:
    target = directory / "release"
    target.mkdir()
    zipball.extract(io.BytesIO(data), str(target), limits)
    return {str(path.relative_to(target)): path.read_bytes() if path.is_file() else None for path in sorted(target.rglob("*"))}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_zip_is_refused_with_its_reason(case: str, tmp_path: Path) -> None:
    data, reason = HOSTILE[case]
    with pytest.raises(ArtifactFault) as refused:
        extract(data, tmp_path)
    assert reason in refused.value.detail
    assert refused.value.hint


ORDINARY: Dict[str, Tuple[bytes, Dict[str, Any]]] = {
    "stored": (make(A), {"a": b"hello"}),
    "deflated": (make(Member(method=8), Member(b"b", b"x" * 1000, method=8)), {"a": b"hello", "b": b"x" * 1000}),
    "folders, one again": (
        make(Member(b"d/", b"", FOLDER), A, Member(b"d/b", b""), Member(b"d/", b"", FOLDER)),
        {"a": b"hello", "d": None, "d/b": b""},
    ),
    "folder deflated, as jar does": (make(A, Member(b"d/", b"", FOLDER, method=8)), {"a": b"hello", "d": None}),
    "one folder": (make(Member(b"top/a"), Member(b"top/top/b", b"")), {"a": b"hello", "top": None, "top/b": b""}),
    "from DOS": (make(Member(made_by=0, attributes=0x20)), {"a": b"hello"}),
    "UTF-8, marked": (make(Member("é".encode(), made_by=0, flags=0x800)), {"é": b"hello"}),
    "UTF-8, not marked, by Info-ZIP": (make(Member("é".encode())), {"é": b"hello"}),
    "data descriptor": (
        make(
            Member(flags=8, local_fields=(0, 0, 0), descriptor=struct.pack("<4s3L", b"PK\7\x08", CRC, 5, 5)),
            Member(b"b", b""),
        ),
        {"a": b"hello", "b": b""},
    ),
    "data descriptor, size known, by Info-ZIP": (
        make(Member(flags=8, local_fields=(0, 0, 5), descriptor=struct.pack("<4s3L", b"PK\7\x08", CRC, 5, 5))),
        {"a": b"hello"},
    ),
    "zip64 data descriptor": (
        make(
            Member(
                flags=8,
                local_fields=(0, 0xFFFFFFFF, 0xFFFFFFFF),
                local_extra=field(1, bytes(16)),
                descriptor=struct.pack("<4sLQQ", b"PK\7\x08", CRC, 5, 5),
            )
        ),
        {"a": b"hello"},
    ),
    "zip64 that nobody needed": (
        make(Member(local_fields=(CRC, 0xFFFFFFFF, 0xFFFFFFFF), local_extra=field(1, struct.pack("<QQ", 5, 5)))),
        {"a": b"hello"},
    ),
    "zip64 that nobody needed, by Python 3.9": (
        make(Member(local_extra=field(1, struct.pack("<QQ", 5, 5)))),
        {"a": b"hello"},
    ),
    "standard input, by Info-ZIP": (make(Member(b"-", attributes=FIFO)), {"-": b"hello"}),
    "git's comment": (make(A, comment=b"c0ffee" * 6), {"a": b"hello"}),
    "extended times and owners": (
        make(Member(extra=field(0x5455, bytes(5)) + field(0x7875, bytes(11)))),
        {"a": b"hello"},
    ),
}


@pytest.mark.parametrize("case", ORDINARY)
def test_an_ordinary_zip_is_unpacked(case: str, tmp_path: Path) -> None:
    data, expected = ORDINARY[case]
    assert extract(data, tmp_path) == expected


def with_zip64_end(**wrong: int) -> bytes:
    """A zip with a zip64 end record beside the ordinary one, as `zip archive -` writes; `wrong` replaces its fields."""
    plain = make(A)
    at = len(plain) - 22
    size, offset = struct.unpack("<LL", plain[-10:-2])
    fields = {"count": 1, "size": size, "offset": offset, "at": at, **wrong}
    record = struct.pack(
        "<4sQ2H2L4Q", b"PK\6\6", 44, 798, 45, 0, 0, fields["count"], fields["count"], fields["size"], fields["offset"]
    )
    return make(A, before_end=record + struct.pack("<4sLQL", b"PK\6\7", 0, fields["at"], 1))


def test_a_zip64_end_record_may_be_there_if_it_agrees(tmp_path: Path) -> None:
    assert extract(with_zip64_end(), tmp_path) == {"a": b"hello"}


@pytest.mark.parametrize("name", ["count", "size", "offset"])
def test_a_zip64_end_record_that_disagrees_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactFault, match="two end records differ"):
        extract(with_zip64_end(**{name: 7}), tmp_path)


def test_every_cut_is_refused_and_no_flipped_byte_is_an_accident() -> None:
    data = make(A, Member(b"d/b", b"x" * 50, method=8))
    for at in range(len(data)):
        with pytest.raises(ArtifactFault):
            zipball.check_zipapp(io.BytesIO(data[:at]))
        flipped = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
        with contextlib.suppress(ArtifactFault):
            zipball.check_zipapp(io.BytesIO(flipped))


def test_the_last_output_of_deflate_is_not_lost() -> None:
    # zlib can take all input and still hold output back when a chunk is full; sizes around a chunk's show it.
    for size in range((1 << 18) - 4, (1 << 18) + 300, 7):
        archive = io.BytesIO(make(Member(content=bytes(size), method=8)))
        members = zipball.read_members(archive)
        assert sum(map(len, zipball.read_content(archive, members[0]))) == size


def test_damaged_deflate_data_is_refused() -> None:
    data = bytearray(make(Member(content=random.Random(0).randbytes(40) * 4, method=8)))
    data[31] ^= 0x06
    with pytest.raises(ArtifactFault):
        zipball.check_zipapp(io.BytesIO(bytes(data)))


@pytest.mark.parametrize(
    ("change", "data", "reason"),
    [
        ({"entries": 1}, make(A, Member(b"b")), "more than 1 entries"),
        ({"member_bytes": 4}, make(A), "larger than 4 bytes"),
        ({"total_bytes": 9}, make(A, Member(b"b")), "more than 9 bytes"),
        ({"directory_bytes": 9}, make(A), "does not fit"),
        ({"ratio_free_bytes": 1 << 20}, make(Member(content=bytes(2 << 20), method=8)), "more than 250 times"),
        ({"seconds": -1.0}, make(A), "not unpacked within"),
    ],
)
def test_limits_are_kept(change: Dict[str, Any], data: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactFault, match=reason):
        extract(data, tmp_path, dataclasses.replace(DEFAULT, **change))


class Pipe(io.BytesIO):
    """A file that can't seek, as zipfile sees a pipe."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: object) -> int:
        raise io.UnsupportedOperation

    def tell(self) -> int:
        raise io.UnsupportedOperation


@pytest.mark.parametrize("stream", [io.BytesIO, Pipe])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_zipfile_writes_is_unpacked(stream: Callable[[], io.BytesIO], method: int, tmp_path: Path) -> None:
    file = stream()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("run.sh", b"#!/bin/sh\n" * 99)
        info = zipfile.ZipInfo("bin/é")
        info.external_attr = (stat.S_IFREG | 0o755) << 16
        archive.writestr(info, b"")
        archive.writestr(zipfile.ZipInfo("empty/"), b"")
        with archive.open("large", "w", force_zip64=True) as member:
            member.write(b"x" * 70_000)
    assert extract(file.getvalue(), tmp_path) == {
        "run.sh": b"#!/bin/sh\n" * 99,
        "bin": None,
        "bin/é": b"",
        "empty": None,
        "large": b"x" * 70_000,
    }
    modes = [(tmp_path / "release" / name).stat().st_mode & 0o7777 for name in ("run.sh", "bin/é", "empty")]
    assert modes == [0o644, 0o755, 0o755]


ZIPAPPS: List[Tuple[str, bytes]] = [
    ("plain", make(Member(b"__main__.py"), A)),
    ("shebang, offsets from the file's start", make(Member(b"__main__.py"), A, prefix=b"#!/usr/bin/python3\n")),
    ("shebang put before", b"#!/usr/bin/python3\n" + make(Member(b"__main__.py"), A)),
    ("gaps", make(Member(b"__main__.py"), Member(b"b", before=b"xx"), A, gap=b"xx")),
]


@pytest.mark.parametrize("data", [data for _, data in ZIPAPPS], ids=[name for name, _ in ZIPAPPS])
def test_a_zipapp_is_looked_into_less_strictly(data: bytes) -> None:
    file = io.BytesIO(data)
    assert zipball.has_main(file)
    zipball.check_zipapp(file)
    assert zipball.read_zipapp_member(file, ("a",), 5) == b"hello"
    assert zipball.read_zipapp_member(file, ("c",), 5) is None
    with pytest.raises(ArtifactFault, match="larger than 4 bytes"):
        zipball.read_zipapp_member(file, ("a",), 4)


@pytest.mark.parametrize("data", [make(Member(b"__main__.py", crc=1)), make(Member(b"__main__.py"), Member(offset=0))])
def test_a_damaged_zipapp_is_refused(data: bytes) -> None:
    with pytest.raises(ArtifactFault):
        zipball.check_zipapp(io.BytesIO(data))


def test_a_zip_with_main_in_a_folder_is_no_zipapp() -> None:
    assert not zipball.has_main(io.BytesIO(make(Member(b"app/__main__.py"))))
