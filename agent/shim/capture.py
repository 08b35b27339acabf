"""The project's output: from a FIFO into numbered segments, without a byte passing through this process.

The project holds the FIFO open read-write, so the death of a shim gives it no SIGPIPE and the
next shim reads on where the last one stopped. splice(2) moves pages from pipe to file, so a
`kill -9` between two instructions neither loses nor repeats a byte; where Python has no
os.splice (3.9) it is read and written, and a `kill -9` may lose what was in between.
"""

from __future__ import annotations

import os
import re
import stat
from typing import List, Tuple

from agent.host import files
from agent.model import LogPolicy
from agent.store.layout import ProjectLayout

_SEGMENT = re.compile(r"output-(\d{8,})\.log")
_CHUNK_BYTES = 1 << 20
_READ_BYTES = 1 << 16


def segment_name(number: int) -> str:
    """The file name of one segment; names sort in the order of writing."""
    return f"output-{number:08d}.log"


def segment_numbers(directory: str) -> List[int]:
    """The segments in a project's `logs/`, oldest first."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return sorted(int(match.group(1)) for match in map(_SEGMENT.fullmatch, names) if match)


class Capture:
    """One project's FIFO and the segment being written. OSError when the store can't hold them."""

    def __init__(self, layout: ProjectLayout, policy: LogPolicy) -> None:
        self._layout = layout
        self.policy = policy
        self.lost_bytes = 0
        self.reader = _open_fifo(layout.fifo)
        numbers = segment_numbers(layout.logs)
        self._number = numbers[-1] if numbers else 1
        self._segment = self._open_segment(self._number)
        self._offset = os.lseek(self._segment, 0, os.SEEK_END)

    @property
    def position(self) -> Tuple[int, int]:
        """Segment number and byte offset of the next byte."""
        return self._number, self._offset

    def open_writer(self) -> int:
        """A blocking read-write descriptor of the same FIFO, for the project's standard output."""
        return os.open(f"/proc/self/fd/{self.reader}", os.O_RDWR)

    def pump(self) -> bool:
        """Move what the FIFO holds, at most one chunk; False when it was empty.

        A disk that refuses costs the bytes, counted in `lost_bytes`, and never blocks the project.
        """
        try:
            if self._offset >= self.policy.segment_bytes:
                self._rotate()
            moved = self._move(min(_CHUNK_BYTES, self.policy.segment_bytes - self._offset))
        except BlockingIOError:
            return False
        except OSError:
            return self._discard()
        self._offset += moved
        return moved > 0

    def drain(self) -> None:
        """Move everything that the FIFO holds now. Once no process of the project is left, that is all there will be."""
        while self.pump():
            pass

    def _move(self, limit: int) -> int:
        if hasattr(os, "splice"):
            return os.splice(self.reader, self._segment, limit, flags=os.SPLICE_F_NONBLOCK)
        data = os.read(self.reader, min(limit, _READ_BYTES))
        files.write_all(self._segment, data)
        return len(data)

    def _discard(self) -> bool:
        try:
            self.lost_bytes += len(os.read(self.reader, _READ_BYTES))
        except BlockingIOError:
            return False
        return True

    def _rotate(self) -> None:
        following = self._open_segment(self._number + 1)  # first: a full disk must leave the old one open
        os.close(self._segment)
        self._segment = following
        self._number += 1
        self._offset = os.lseek(self._segment, 0, os.SEEK_END)
        self.prune()

    def prune(self) -> None:
        """Delete the oldest segments beyond the cap."""
        for number in segment_numbers(self._layout.logs):
            if number <= self._number - self.policy.segments:
                files.remove_if_present(f"{self._layout.logs}/{segment_name(number)}")

    def _open_segment(self, number: int) -> int:
        files.make_directory(self._layout.logs)  # a project may have removed it
        # no O_APPEND: splice(2) refuses it with EINVAL
        path = f"{self._layout.logs}/{segment_name(number)}"
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _open_fifo(path: str) -> int:
    """The FIFO, made when absent or when something else took its name; read-write, so that it never ends."""
    for _ in range(2):
        try:
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                return fd
            os.close(fd)
            os.unlink(path)
        except FileNotFoundError:
            pass
        os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
