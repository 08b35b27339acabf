"""A launch that sends only what the host lacks: the tar without the files that an earlier release has brought there."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import tempfile
from typing import Any, BinaryIO, Dict, List, NamedTuple, Optional, Sequence, Set, cast

from agent.client import Client, digest
from agent.errors import Conflict, NotFound

#: Of smaller files the digest would cost nearly as much as the file.
_SMALLEST_BYTES = 4096
#: So many stretches go into one launch (1 MiB of list), so many files into one question (64 KiB).
_MOST, _AT_ONCE = 8000, 500
_CHUNK_BYTES = 1 << 18


class Stretch(NamedTuple):
    """The content of one file within the tar."""

    offset: int
    size: int
    sha256: str


def is_plain_tar(path: str) -> bool:
    """Whether the file is an uncompressed tar: of any other the bytes can't be told from those of its members."""
    try:
        with open(path, "rb") as file:
            return file.read(265)[257:262] == b"ustar"
    except OSError:  # whoever sends it says so
        return False


def launch(
    agent: Client, project: str, path: str, version: Optional[str], sha256: Optional[str], on_progress: Any,
    **how: Any,
) -> Dict[str, Any]:  # fmt: skip
    """As Client.launch, of a plain tar. An agent of a release that can't do this gets the whole."""
    with open(path, "rb") as tar:
        stretches = _stretches(tar)
        try:
            lacking = _lacking(agent, project, stretches)
        except NotFound:
            stretches = []
        if not stretches:
            return agent.launch(project, tar, version, sha256, on_progress, **how)
        known = [stretch for stretch in stretches if stretch.sha256 not in lacking]
        whole = sha256 or digest(tar)
        try:
            return _send(agent, project, tar, whole, known, version, on_progress, how)
        except Conflict as error:
            if "lacking" not in error.members:
                raise
            return _send(agent, project, tar, whole, [], version, on_progress, how)  # a release has gone meanwhile


def _send(
    agent: Client, project: str, tar: BinaryIO, sha256: str, known: Sequence[Stretch], version: Optional[str],
    on_progress: Any, how: Dict[str, Any],
) -> Dict[str, Any]:  # fmt: skip
    with tempfile.TemporaryFile(prefix="ant-host-agent-") as file:
        rest = cast(BinaryIO, file)
        with gzip.GzipFile("", "wb", 6, rest, mtime=0) as packed:
            _write_rest(tar, known, cast(BinaryIO, packed))
        return agent.launch_partial(project, rest, sha256, known, version, on_progress, **how)


def _stretches(tar: BinaryIO) -> List[Stretch]:
    """The largest files, by rising offsets; none where the tar can't be read: the agent says what is wrong with it."""
    tar.seek(0)
    try:
        with tarfile.open(fileobj=tar, mode="r:") as archive:
            members = [(member.offset_data, member.size) for member in archive if member.isreg() and not member.issparse()]
    except tarfile.TarError:
        return []
    largest = sorted((member for member in members if member[1] >= _SMALLEST_BYTES), key=lambda member: -member[1])[:_MOST]
    return [Stretch(offset, size, _digest(tar, offset, size)) for offset, size in sorted(largest)]


def _digest(tar: BinaryIO, offset: int, size: int) -> str:
    found = hashlib.sha256()
    tar.seek(offset)
    while size:
        data = tar.read(min(size, _CHUNK_BYTES))
        if not data:
            break
        found.update(data)
        size -= len(data)
    return found.hexdigest()


def _lacking(agent: Client, project: str, stretches: Sequence[Stretch]) -> Set[str]:
    lacking: Set[str] = set()
    for begin in range(0, len(stretches), _AT_ONCE):
        asked = [{"sha256": stretch.sha256, "size": stretch.size} for stretch in stretches[begin : begin + _AT_ONCE]]
        lacking.update(agent.have(project, asked)["lacking"])
    return lacking


def _write_rest(tar: BinaryIO, known: Sequence[Stretch], rest: BinaryIO) -> None:
    at = 0
    for stretch in known:
        _copy(tar, at, stretch.offset, rest)
        at = stretch.offset + stretch.size
    _copy(tar, at, tar.seek(0, 2), rest)


def _copy(tar: BinaryIO, begin: int, end: int, rest: BinaryIO) -> None:
    tar.seek(begin)
    while begin < end:
        data = tar.read(min(end - begin, _CHUNK_BYTES))
        if not data:
            return
        rest.write(data)
        begin += len(data)
