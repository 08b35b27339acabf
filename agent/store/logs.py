"""The read side of logs: a project's logs, record and history as one tar that exists nowhere.

`LogTar` computes the headers and reads the contents from open descriptors, so a download costs
no disk, no copy and constant memory, and its length is known beforehand. Every member is opened
through directory descriptors without following a link (openat(2), O_NOFOLLOW) and must be a
regular file with one name: a project must not get the agent to read another file for it.
"""

from __future__ import annotations

import errno
import fnmatch
import json
import os
import re
import stat
import time
from bisect import bisect_right
from typing import List, Optional, Sequence, Set, Tuple, Union

from agent.errors import MalformedRequest
from agent.host.files import read_json
from agent.model import parse_version
from agent.store.layout import ProjectLayout

#: (name, content) or (name, descriptor, size in bytes); a LogTar owns its descriptors.
Member = Union[Tuple[str, bytes], Tuple[str, int, int]]

INCLUDED_BYTES = 64 * 1024 * 1024
INCLUDED_FILES = 200

_BLOCK = 512
_SEGMENT = re.compile(r"output-(\d+)\.log")
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class LogTar:
    """A read-only, seekable view of a tar (ustar with GNU long names) over its members.

    Sizes are fixed when it is made: what a file gains later is left out, what it loses reads as
    zeros. `read` raises OSError where a member can't be read.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self._starts: List[int] = []
        self._parts: List[Tuple[int, Union[bytes, int]]] = []
        self._descriptors: List[int] = []
        self.size_bytes = 0
        self._position = 0
        for member in members:
            self._add(member)
        self._append(2 * _BLOCK, bytes(2 * _BLOCK))

    def _add(self, member: Member) -> None:
        if len(member) == 2:
            name, content = member
            self._append_file(name, content, len(content), int(time.time()))
        else:
            name, fd, size = member
            self._descriptors.append(fd)
            self._append_file(name, fd, size, int(os.fstat(fd).st_mtime))

    def _append_file(self, name: str, content: Union[bytes, int], size: int, modified: int) -> None:
        head = header(name, size, modified)
        self._append(len(head), head)
        if size:
            self._append(size, content)
        if size % _BLOCK:
            self._append(-size % _BLOCK, bytes(-size % _BLOCK))

    def _append(self, size: int, content: Union[bytes, int]) -> None:
        self._starts.append(self.size_bytes)
        self._parts.append((size, content))
        self.size_bytes += size

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As io.IOBase.seek."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size_bytes}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, fewer only at the end."""
        left = max(0, self.size_bytes - self._position)
        left = left if size < 0 else min(size, left)
        pieces = []
        while left:
            piece = self._piece(left)
            pieces.append(piece)
            self._position += len(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _piece(self, limit: int) -> bytes:
        index = bisect_right(self._starts, self._position) - 1
        offset = self._position - self._starts[index]
        size, content = self._parts[index]
        count = min(limit, size - offset)
        if isinstance(content, bytes):
            return content[offset : offset + count]
        return os.pread(content, count, offset) or bytes(count)

    def close(self) -> None:
        """Close every descriptor; a second call does nothing."""
        descriptors, self._descriptors = self._descriptors, []
        for fd in descriptors:
            os.close(fd)


def header(name: str, size: int, modified: int) -> bytes:
    """The tar header of a regular file (tar(5)): ustar, with GNU's 'L' record for a name over 100 bytes and base 256
    for a size over 8 GiB."""
    encoded = name.encode("utf-8", "surrogateescape")
    head = b""
    if len(encoded) > 100:
        long_name = encoded + b"\0"
        head = _header(b"././@LongLink", len(long_name), 0, b"L") + long_name + bytes(-len(long_name) % _BLOCK)
    return head + _header(encoded[:100], size, modified, b"0")


def _header(name: bytes, size: int, modified: int, kind: bytes) -> bytes:
    octal = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    fields = [
        name.ljust(100, b"\0"),
        b"0000644\0",
        b"0000000\0",
        b"0000000\0",
        octal,
        b"%011o\0" % max(0, modified),
        b" " * 8,
        kind,
        bytes(100),
        b"ustar  \0",
    ]
    block = b"".join(fields).ljust(_BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def open_project_logs(layout: ProjectLayout, include: Sequence[str] = ()) -> LogTar:
    """The project's logs oldest first, its record, history and manifest, and the release's files that match `include`.

    Raises OSError where the store can't be read; a project without logs gives a valid tar. Of
    `include` at most INCLUDED_FILES files and INCLUDED_BYTES bytes are taken; a member
    `<project>/left-out.txt` names the rest.
    """
    collection = _Collection(layout.project)
    try:
        root = collection.open_directory(None, layout.root)
        if root is not None:
            _collect_logs(collection, root)
            for name in ("record.json", "history.1.jsonl", "history.jsonl"):
                collection.add(root, name, name)
            _collect_release(collection, root, layout, include)
        tar = LogTar(collection.members)
    except BaseException:
        collection.close_members()
        raise
    finally:
        collection.close_directories()
    return tar


class _Collection:
    """The members being collected, and the directories that are open meanwhile."""

    def __init__(self, project: str) -> None:
        self.members: List[Member] = []
        self._project = project
        self._directories: List[int] = []

    def open_directory(self, parent: Optional[int], name: str) -> Optional[int]:
        """A descriptor of the directory, None when it is absent, a link or no directory."""
        try:
            fd = os.open(name, _OPEN_DIRECTORY, dir_fd=parent)
        except OSError as error:
            _require_absent(error)
            return None
        self._directories.append(fd)
        return fd

    def add(self, directory: int, name: str, member: str, limit_bytes: Optional[int] = None) -> Optional[int]:
        """Add the file as `<project>/<member>`; its size, or None when it is no plain file or over the limit."""
        try:
            fd = os.open(name, _OPEN, dir_fd=directory)
        except OSError as error:
            _require_absent(error)
            return None
        found = os.fstat(fd)
        plain = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
        if not plain or (limit_bytes is not None and found.st_size > limit_bytes):
            os.close(fd)
            return None
        self.members.append((f"{self._project}/{member}", fd, found.st_size))
        return found.st_size

    def add_bytes(self, member: str, content: bytes) -> None:
        self.members.append((f"{self._project}/{member}", content))

    def close_directory(self, fd: int) -> None:
        self._directories.remove(fd)
        os.close(fd)

    def close_directories(self) -> None:
        while self._directories:
            os.close(self._directories.pop())

    def close_members(self) -> None:
        for member in self.members:
            if len(member) == 3:
                os.close(member[1])


def _require_absent(error: OSError) -> None:
    """Raise what is wrong with the store; what is not there (any more), a link, a device or unreadable is left out."""
    if error.errno not in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EACCES, errno.ENAMETOOLONG):
        raise error


def _collect_logs(collection: _Collection, root: int) -> None:
    logs = collection.open_directory(root, "logs")
    if logs is None:
        return
    segments = [match for match in map(_SEGMENT.fullmatch, os.listdir(logs)) if match]
    names = [match.group() for match in sorted(segments, key=lambda match: int(match.group(1)))]
    for name in [*names, "events.1.jsonl", "events.jsonl"]:
        collection.add(logs, name, f"logs/{name}")


def _collect_release(collection: _Collection, root: int, layout: ProjectLayout, include: Sequence[str]) -> None:
    """The manifest of the current release and its included files. The link's target is only ever used as a version."""
    try:
        version = parse_version(os.path.basename(os.readlink("current", dir_fd=root)))
    except (OSError, MalformedRequest):
        return
    release_json = read_json(layout.release_json(version)) or {}
    if release_json.get("manifest"):
        collection.add_bytes("manifest.json", json.dumps(release_json["manifest"], indent=1).encode() + b"\n")
    releases = collection.open_directory(root, "releases")
    release = None if releases is None else collection.open_directory(releases, version)
    if release is not None and include:
        _Included(collection).collect(release, include)


class _Included:
    """The files of a release that match the manifest's `logs.include`, within the two caps."""

    def __init__(self, collection: _Collection) -> None:
        self._collection = collection
        self._left_bytes = INCLUDED_BYTES
        self._taken: Set[str] = set()
        self._left_out: List[str] = []

    def collect(self, release: int, patterns: Sequence[str]) -> None:
        for pattern in patterns:
            parts = [part for part in pattern.split("/") if part not in ("", ".")]
            if parts and ".." not in parts:
                self._match(release, "", parts)
        if self._left_out:
            lines = "".join(f"{name}\n" for name in self._left_out[:1000]).encode("utf-8", "surrogateescape")
            self._collection.add_bytes("left-out.txt", lines)

    def _match(self, directory: int, prefix: str, parts: List[str]) -> None:
        names = sorted(fnmatch.filter(os.listdir(directory), parts[0]))
        for name in names:
            if len(parts) == 1:
                self._take(directory, name, prefix + name)
                continue
            inner = self._collection.open_directory(directory, name)
            if inner is not None:
                self._match(inner, f"{prefix}{name}/", parts[1:])
                self._collection.close_directory(inner)

    def _take(self, directory: int, name: str, relative: str) -> None:
        if relative in self._taken:
            return
        if len(self._taken) >= INCLUDED_FILES:
            self._left_out.append(relative)
            return
        size = self._collection.add(directory, name, f"included/{relative}", self._left_bytes)
        if size is None:
            self._left_out.append(relative)
        else:
            self._taken.add(relative)
            self._left_bytes -= size
