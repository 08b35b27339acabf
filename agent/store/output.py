"""A project's output as one row of bytes, whatever segments it lies in.

Segments are opened through directory descriptors without following a link and must be regular files with one
name: a project must not get the agent to read another file for it. Nothing is copied; what is read at a time
is one block.
"""

from __future__ import annotations

import errno
import os
import stat
from bisect import bisect_right
from typing import List, NamedTuple, Optional, Tuple

from agent.store.layout import ProjectLayout
from agent.store.segments import segment_name, segment_numbers_of

BLOCK_BYTES = 1 << 16

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: What is not there (any more), a link, a device or unreadable is left out; anything else is wrong with the store.
_ABSENT = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EACCES, errno.ENAMETOOLONG)


def open_directory(parent: Optional[int], name: str) -> Optional[int]:
    """A descriptor of the directory; None when it is absent, a link or no directory."""
    try:
        return os.open(name, _OPEN_DIRECTORY, dir_fd=parent)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return None


def open_plain(directory: int, name: str) -> Optional[int]:
    """A descriptor of the regular file with one name; None when it is none."""
    try:
        fd = os.open(name, _OPEN, dir_fd=directory)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return None
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:  # 0: rotated away meanwhile
        return fd
    os.close(fd)
    return None


def open_logs(layout: ProjectLayout) -> Optional[int]:
    """A descriptor of the project's `logs/`; None when there is none."""
    root = open_directory(None, layout.root)
    if root is None:
        return None
    try:
        return open_directory(root, "logs")
    finally:
        os.close(root)


class Segment(NamedTuple):
    """One open segment: its number, its descriptor and how many bytes of it there were then."""

    number: int
    fd: int
    size: int


def open_segments(logs: int, last: Optional[int] = None) -> List[Segment]:
    """The segments in an open `logs/`, oldest first, without a gap, up to number `last`; the caller closes them.

    The newest is opened first: rotation removes the oldest, so what is missing on the way back ends the row.
    """
    found: List[Segment] = []
    for number in reversed(segment_numbers_of(os.listdir(logs))):
        if last is not None and number > last:
            continue
        fd = open_plain(logs, segment_name(number))
        if fd is None or (found and found[-1].number != number + 1):
            if fd is not None:
                os.close(fd)
            break
        found.append(Segment(number, fd, os.fstat(fd).st_size))
    return found[::-1]


class Output:
    """The row of bytes; positions count from the first byte of the oldest segment there was when it was opened.

    `size` is where it ends, until `grow` finds more. OSError where the store can't be read.
    """

    def __init__(self, layout: ProjectLayout) -> None:
        self._layout = layout
        self._segments: List[Segment] = []
        self._starts: List[int] = []
        self.size = 0
        self._block, self._block_at = b"", 0
        logs = open_logs(layout)
        if logs is not None:
            try:
                for segment in open_segments(logs):
                    self._append(segment)
            finally:
                os.close(logs)

    def _append(self, segment: Segment) -> None:
        self._starts.append(self.size)
        self._segments.append(segment)
        self.size += segment.size

    def position(self, number: int, offset: int) -> int:
        """Where a byte of a segment lies; the nearest end for what is not there."""
        for segment, start in zip(self._segments, self._starts):
            if number < segment.number:
                return start
            if number == segment.number:
                return start + self._before(segment, offset)
        return self.size

    def place(self, position: int) -> Tuple[int, int]:
        """The number of the segment that goes on there, and how many bytes of the row are in it before."""
        index = bisect_right(self._starts, position) - 1
        return (self._segments[index].number, position - self._starts[index]) if index >= 0 else (1, 0)

    def position_of(self, place: Tuple[int, int]) -> int:
        """Where a place lies. LookupError when it was rotated away, or never was."""
        number, before = place
        for segment, start in zip(self._segments, self._starts):
            if number == segment.number and before <= segment.size:
                return start + before
        if not self._segments and place == (1, 0):
            return 0
        raise LookupError(f"byte {before} of segment {number} is not there")

    def _before(self, segment: Segment, offset: int) -> int:
        """How many bytes of the row are in the segment before that offset of the file."""
        return min(offset, segment.size)

    def _piece(self, segment: Segment, offset: int, count: int) -> bytes:
        """Some bytes of the row in the segment, at most `count`; what a file has lost since (it was truncated) is zeros."""
        return os.pread(segment.fd, count, offset) or bytes(count)

    def ends(self) -> List[float]:
        """When each segment was written to last (seconds since the epoch), oldest first."""
        return [os.fstat(segment.fd).st_mtime for segment in self._segments]

    def start(self, index: int) -> int:
        """Where the segment of that index in `ends` begins; the end of everything for the one after the last."""
        return self._starts[index] if index < len(self._starts) else self.size

    def grow(self) -> bool:
        """Look for output that came meanwhile; False when there is none.

        LookupError when a segment that was not opened yet has been rotated away.
        """
        last = self._segments[-1] if self._segments else None
        if last is not None:
            if self._measure(last):
                return True
            is_kept = os.fstat(last.fd).st_nlink > 0  # and then the next one is, too
            if is_kept and not os.path.lexists(f"{self._layout.logs}/{segment_name(last.number + 1)}"):
                return False
        logs = open_logs(self._layout)
        if logs is None:
            return False
        try:
            return self._open_next(logs, last)
        finally:
            os.close(logs)

    def _measure(self, last: Segment) -> bool:
        size = os.fstat(last.fd).st_size
        if size <= last.size:
            return False
        self._segments[-1] = last._replace(size=size)
        self.size += size - last.size
        return True

    def _open_next(self, logs: int, last: Optional[Segment]) -> bool:
        number = last.number if last is not None else 0
        following = [found for found in segment_numbers_of(os.listdir(logs)) if found > number]
        if not following:
            return False
        if last is not None and self._measure(last):
            return True  # once there is a next one the last does not grow any more, but it did just before
        if last is not None and following[0] != number + 1:
            raise LookupError(f"segment {number + 1} was rotated away before it was read")
        fd = open_plain(logs, segment_name(following[0]))
        if fd is None:
            return False
        self._append(Segment(following[0], fd, os.fstat(fd).st_size))
        return self._segments[-1].size > 0

    def forget(self, position: int) -> None:
        """Close the segments that end before the position, which is not gone back behind."""
        while len(self._segments) > 1 and self._starts[1] <= position:
            os.close(self._segments.pop(0).fd)
            self._starts.pop(0)

    def read(self, begin: int, end: int) -> bytes:
        """Bytes from `begin` on, at most up to `end`, a block or the end of a segment; b"" at the end."""
        index = bisect_right(self._starts, begin) - 1
        while 0 <= index < len(self._segments):
            segment, offset = self._segments[index], begin - self._starts[index]
            count = min(end - begin, segment.size - offset, BLOCK_BYTES)
            if count > 0:
                return self._piece(segment, offset, count)
            if offset < segment.size:
                return b""
            index += 1
        return b""

    def _load(self, begin: int, end: int) -> bytes:
        """The block, made to hold what is from `begin` up to `end` (no more than BLOCK_BYTES)."""
        if begin < self._block_at or end > self._block_at + len(self._block):
            parts, at = [], begin
            while at < begin + 2 * BLOCK_BYTES:
                part = self.read(at, begin + 2 * BLOCK_BYTES)
                if not part:
                    break
                parts.append(part)
                at += len(part)
            self._block, self._block_at = b"".join(parts), begin
        return self._block

    def find(self, needle: bytes, begin: int, end: int) -> int:
        """The first position of `needle` (shorter than a block) within `begin` … `end`; -1 when it is not there."""
        while end - begin >= len(needle):
            block = self._load(begin, min(end, begin + BLOCK_BYTES))
            found = block.find(needle, begin - self._block_at, end - self._block_at)
            if found >= 0:
                return self._block_at + found
            searched = min(end, self._block_at + len(block))
            begin = max(begin, searched - len(needle)) + 1
        return -1

    def find_last(self, needle: bytes, begin: int, end: int) -> int:
        """The last position of `needle` (shorter than a block) within `begin` … `end`; -1 when it is not there."""
        while end - begin >= len(needle):
            if not self._block_at <= end - len(needle) < end <= self._block_at + len(self._block):
                self._load(max(begin, end - BLOCK_BYTES), end)
            lowest = max(begin, self._block_at)
            found = self._block.rfind(needle, lowest - self._block_at, end - self._block_at)
            if found >= 0:
                return self._block_at + found
            end = min(end, lowest + len(needle)) - 1 if lowest > begin else begin
        return -1

    def close(self) -> None:
        """Close every descriptor; a second call does nothing."""
        segments, self._segments = self._segments, []
        for segment in segments:
            os.close(segment.fd)
