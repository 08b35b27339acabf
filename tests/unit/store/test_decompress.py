"""Compressed tars: one whole stream of each kind is read, and nothing that is damaged, longer or a bomb."""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import io
import lzma
import os
import random
from pathlib import Path
from typing import Callable, Dict

import pytest

from agent.errors import ArtifactFault
from agent.store import tarball
from agent.store.limits import DEFAULT, Limits
from tests.support.tarblocks import END, member

A = member(b"a", content=b"hello")


def unpack(data: bytes, directory: Path, limits: Limits = DEFAULT) -> Dict[str, bytes]:
    release = directory / "release"
    release.mkdir()
    tarball.extract(io.BytesIO(data), str(release), limits)
    return {name: (release / name).read_bytes() for name in os.listdir(release)}


COMPRESSORS: Dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_compressed_tar_is_unpacked(name: str, tmp_path: Path) -> None:
    content = random.Random(0).randbytes(700_000)
    data = COMPRESSORS[name](member(b"a", content=content) + END)
    assert unpack(data, tmp_path) == {"a": content}


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[:-1], "cut short"),
        (lambda data: data[: len(data) // 2], "cut short"),
        (lambda data: data + b"x", "bytes after its"),
        (lambda data: data + data, "bytes after its"),
        (lambda data: data[:14] + bytes(4) + data[18:], "damaged"),
    ],
)
def test_a_damaged_compressed_tar_is_refused(name: str, damage: Callable[[bytes], bytes], reason: str, tmp_path: Path) -> None:
    data = COMPRESSORS[name](member(b"a", content=random.Random(0).randbytes(5000)) + END)
    with pytest.raises(ArtifactFault, match=reason):
        unpack(damage(data), tmp_path)


def test_zstd_is_unpacked_or_said_to_be_out_of_reach(tmp_path: Path) -> None:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        with pytest.raises(ArtifactFault, match="this host's Python has no zstd"):
            unpack(b"\x28\xb5\x2f\xfd" + A, tmp_path)
    else:
        assert unpack(zstd.compress(A + END), tmp_path) == {"a": b"hello"}


@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_bomb_is_refused_by_its_ratio(name: str, tmp_path: Path) -> None:
    limits = dataclasses.replace(DEFAULT, ratio_free_bytes=1 << 20)
    data = COMPRESSORS[name](member(b"a", content=bytes(4 << 20)) + END)
    with pytest.raises(ArtifactFault, match="more than 250 times its size"):
        unpack(data, tmp_path, limits)


def test_xz_that_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 256 << 20}]
    data = lzma.compress(A + END, filters=filters)
    with pytest.raises(ArtifactFault, match="Memory usage limit"):
        unpack(data, tmp_path)
