"""Spooling: one file, one digest, and neither file, slot, descriptor nor thread left of what was not finished."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from pathlib import Path
from typing import Iterator

import pytest

from agent.errors import Busy, MalformedRequest, StorageFull, TooLarge
from agent.host.files import Space
from agent.store.layout import StoreLayout
from agent.web.spool import Body, Uploads, reserve_bytes

MIB = 1 << 20
PLENTY = Space(1 << 40, 1 << 40, 1 << 20, 1 << 22)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreLayout]:
    """An empty store; at the end no staging file, digest thread or descriptor may be left."""
    made = StoreLayout(str(tmp_path))
    os.mkdir(made.staging)
    before = len(os.listdir("/proc/self/fd"))
    yield made
    for thread in threading.enumerate():
        if thread.name == "digest":
            thread.join(10)
    assert len(os.listdir("/proc/self/fd")) == before
    assert os.listdir(made.staging) == []


@pytest.mark.parametrize("size", [1, 1000, MIB, MIB + 1, 5 * MIB + 3])
def test_what_was_appended_is_in_the_file_with_its_digest(store: StoreLayout, size: int) -> None:
    content = random.Random(size).randbytes(size)
    uploads = Uploads(store, 8 * MIB)
    spool = uploads.open(size)
    for at in range(0, size, 100_000):
        spool.append(content[at : at + 100_000])
    assert len(spool) == size
    upload = spool.finish()
    spool.close()
    assert (upload.digest, upload.size_bytes) == (hashlib.sha256(content).hexdigest(), size)
    assert Path(upload.path).read_bytes() == content
    assert os.stat(upload.path).st_mode & 0o777 == 0o600
    assert len(uploads) == 0
    os.unlink(upload.path)


@pytest.mark.parametrize("size", [0, 1000, 3 * MIB])
def test_close_removes_what_was_not_finished(store: StoreLayout, size: int) -> None:
    uploads = Uploads(store, 8 * MIB)
    spool = uploads.open(None)
    spool.append(bytes(size))
    spool.close()
    spool.close()
    assert len(uploads) == 0 and os.listdir(store.staging) == []
    with pytest.raises(ValueError, match="closed"):
        spool.append(b"x")


def test_an_empty_upload_is_malformed(store: StoreLayout) -> None:
    spool = Uploads(store, 100).open(None)
    with pytest.raises(MalformedRequest, match="artifact"):
        spool.finish()
    spool.close()


def test_the_limit_holds_to_the_byte(store: StoreLayout) -> None:
    spool = Uploads(store, 100).open(None)
    spool.append(bytes(100))
    with pytest.raises(TooLarge):
        spool.append(b"x")
    spool.close()


@pytest.mark.parametrize("size", [1000, 3 * MIB])
def test_a_disk_that_cannot_be_read_back_is_an_error(store: StoreLayout, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    def refuse(fd: int, length: int, offset: int) -> bytes:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr("agent.web.spool.os.pread", refuse)
    spool = Uploads(store, 8 * MIB).open(None)
    for _ in range(3):
        spool.append(bytes(size // 3))
    with pytest.raises(OSError, match="Input/output"):
        spool.finish()
    spool.close()


def test_a_file_that_lost_bytes_is_an_error(store: StoreLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.web.spool.os.pread", lambda fd, length, offset: b"")
    spool = Uploads(store, 8 * MIB).open(None)
    spool.append(bytes(2 * MIB))
    with pytest.raises(OSError, match="lost bytes"):
        spool.finish()
    spool.close()


def test_slots_are_counted(store: StoreLayout) -> None:
    uploads = Uploads(store, 100, slots=2)
    first, second = uploads.open(None), uploads.open(None)
    with pytest.raises(Busy):
        uploads.open(None)
    first.close()
    first.close()
    third = uploads.open(None)
    with pytest.raises(Busy):
        uploads.open(None)
    second.close()
    third.close()


def test_the_artifact_must_fit_twice_beside_the_reserve(store: StoreLayout) -> None:
    space = Space(264 * MIB, 1 << 30, 1 << 20, 1 << 22)
    uploads = Uploads(store, 1 << 40, space=lambda path: space)
    uploads.require_space(100 * MIB)
    with pytest.raises(StorageFull, match="free"):
        uploads.require_space(100 * MIB + 1)


def test_uploads_under_way_keep_their_space(store: StoreLayout) -> None:
    uploads = Uploads(store, 1 << 40, space=lambda path: Space(264 * MIB, 1 << 30, 1 << 20, 1 << 22))
    spool = uploads.open(50 * MIB)
    uploads.require_space(50 * MIB)
    with pytest.raises(StorageFull):
        uploads.require_space(51 * MIB)
    spool.close()
    uploads.require_space(100 * MIB)


def test_inodes_count_where_they_are_counted(store: StoreLayout) -> None:
    Uploads(store, 1, space=lambda path: Space(1 << 40, 1 << 40, 0, 0)).require_space(1)
    with pytest.raises(StorageFull, match="inodes"):
        Uploads(store, 1, space=lambda path: Space(1 << 40, 1 << 40, 999, 5000)).require_space(1)


def test_a_chunked_upload_ends_before_the_disk_does(store: StoreLayout) -> None:
    spaces = iter([PLENTY, Space(0, 1 << 30, 1 << 20, 1 << 22)])
    uploads = Uploads(store, 1 << 40, space=lambda path: next(spaces))
    spool = uploads.open(None)
    piece = bytes(33 * MIB)
    spool.append(piece)
    spool.append(piece)
    spool.append(piece)
    with pytest.raises(StorageFull):
        spool.append(piece)
    spool.close()


@pytest.mark.parametrize(
    ("total", "reserve"), [(1 << 30, 64 * MIB), (10 << 30, (10 << 30) // 50), (1 << 40, 1 << 30), (0, 64 * MIB)]
)
def test_the_reserve(total: int, reserve: int) -> None:
    assert reserve_bytes(Space(0, total, 0, 0)) == reserve


def test_a_small_body_is_held_to_its_limit() -> None:
    body = Body(5)
    body.append(b"abc")
    with pytest.raises(TooLarge):
        body.append(b"def")
    assert body.getfile().read() == b"abc" and len(body) == 3
    body.close()
