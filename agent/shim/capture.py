"""The output: from a FIFO, or one for each of its streams, into numbered segments, without a byte passing through this process.

The project holds the FIFO open read-write, so the death of a shim gives it no SIGPIPE and the
next shim reads on where the last one stopped. splice(2) moves pages from pipe to file, so a
`kill -9` between two instructions neither loses nor repeats a byte; where Python has no
os.splice (3.9) it is read and written, and a `kill -9` may lose what was in between.

Streams that are told apart go into the same segments, in the order of arrival: a mark beside the segment says, before
the bytes are moved, of which stream they are. So a `kill -9` leaves no byte in doubt: one mark too many at most,
which the next shim's first mark replaces.
"""

from __future__ import annotations

import os
import select
import sys
from typing import Optional, Tuple

from agent.host import files
from agent.model import MIN_SEGMENT_BYTES, LogPolicy
from agent.shim.times import Marks, Times
from agent.store.layout import ProjectLayout
from agent.store.segments import STDERR, STDOUT, STREAM_MARK_BYTES, segment_name, segment_numbers, streams_name

_CHUNK_BYTES = 1 << 20
_READ_BYTES = 1 << 16
#: Pumps of one drain; what writes on faster than that is drained on in the next turn.
_DRAIN_PUMPS = 256


class Capture:
    """One project's FIFO and the segment being written, after `prepare`. OSError when the store can't hold them.

    `segment_bytes` and `segments` are the cap, set by whoever knows the release. Until then nothing is removed: the release
    may well want to keep more than others.
    """

    def __init__(self, layout: ProjectLayout, number: int) -> None:
        self._logs = layout.logs
        self._error_fifo = layout.error_fifo
        self._number = number
        self.segment_bytes = LogPolicy.segment_bytes
        self.segments: Optional[int] = None
        self.lost_bytes = 0
        self.lost_at = (0, 0)
        #: The FIFOs' descriptors: that of standard output, and in `readers` that of standard error, too.
        self.reader = os.open(layout.fifo, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)  # read-write: it never ends
        self._readable = select.poll()
        self._readable.register(self.reader, select.POLLIN)
        self.readers: Tuple[int, ...] = (self.reader,)
        self._times = Times(layout, number)
        self._segment, self._offset = -1, 0
        try:
            self._begin_segment(number)
        except OSError:  # a disk that refuses it costs the output, not the shim
            self._segment = -1
        self._marks = Marks(self._logs, number)
        self.listen_to_errors()

    def listen_to_errors(self) -> None:
        """From now on standard error, too, if a release has asked for it apart."""
        if len(self.readers) == 1 and os.access(self._error_fifo, os.F_OK):
            reader = os.open(self._error_fifo, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
            self.readers = (self.reader, reader)
            self._readable.register(reader, select.POLLIN)

    def has_gap(self) -> bool:
        """Whether bytes were lost and the disk takes them again: what comes next lies behind a gap that nobody was told of."""
        return self.lost_bytes > 0 and self.lost_at != self.position()

    def position(self) -> Tuple[int, int]:
        """Segment number and byte offset of the next byte."""
        return self._number, self._offset

    def close(self) -> None:
        """Let go of the FIFOs and the segment."""
        for fd in (*self.readers, self._segment):
            if fd >= 0:
                os.close(fd)

    def pump(self, reader: int) -> bool:
        """Move what this FIFO holds, at most one chunk; False when it was empty.

        A disk that refuses costs the bytes, counted in `lost_bytes`, and never blocks the project.
        """
        return self._pump_at_most(reader, _CHUNK_BYTES)

    def _pump_at_most(self, reader: int, limit: int) -> bool:
        try:
            if self._segment < 0:
                self._begin_segment(self._number)
            room = self.segment_bytes - self._offset - self._marks.size
            if room <= (STREAM_MARK_BYTES if len(self.readers) > 1 else 0):
                self._rotate()
            self._times.note(self._number, self._offset)
            self._marks.note(STDOUT if reader == self.reader else STDERR, self._offset)
            moved = self._move(reader, min(limit, self.segment_bytes - self._offset - self._marks.size))
        except BlockingIOError:
            return False
        except OSError:
            return self._discard(reader)
        self._offset += moved
        return moved > 0

    def drain(self) -> None:
        """Move everything that the FIFOs hold now. Once no process of the project is left, that is all there will be."""
        for _ in range(_DRAIN_PUMPS):
            moved = [self.pump(fd) for fd, _ in self._readable.poll(0)]
            if not any(moved):
                return

    def pump_until(self, fd: int) -> None:
        """Move output until `fd` is readable, or at its end; only what fits under the smallest cap there may be.

        Meanwhile a turn may be starting a release with another cap than the one known here.
        """
        every = select.poll()
        for either in (*self.readers, fd):
            every.register(either, select.POLLIN)
        while self._offset < MIN_SEGMENT_BYTES:
            ready = [found for found, _ in every.poll()]
            if fd in ready:
                return
            for reader in ready:
                if self._offset < MIN_SEGMENT_BYTES:
                    self._pump_at_most(reader, MIN_SEGMENT_BYTES - self._offset)

    def _move(self, reader: int, limit: int) -> int:
        if sys.version_info >= (3, 10):
            return os.splice(reader, self._segment, limit, flags=os.SPLICE_F_NONBLOCK)
        data = os.read(reader, min(limit, _READ_BYTES))
        files.write_all(self._segment, data)
        return len(data)

    def _discard(self, reader: int) -> bool:
        try:
            lost = len(os.read(reader, _READ_BYTES))
        except BlockingIOError:
            return False
        self.lost_at = self.lost_at if self.lost_bytes else self.position()
        self.lost_bytes += lost
        return True

    def _rotate(self) -> None:
        self._begin_segment(self._number + 1)
        self._marks = Marks(self._logs, self._number)
        oldest = self._number - self.segments if self.segments is not None else 0
        for number in segment_numbers(self._logs):
            if number <= oldest:
                for name in (segment_name(number), streams_name(number)):
                    files.remove_if_present(f"{self._logs}/{name}")

    def _begin_segment(self, number: int) -> None:
        following = self._open_segment(number)  # first: a full disk must leave the old one open
        if self._segment >= 0:
            os.close(self._segment)
        self._segment, self._number = following, number
        self._offset = os.lseek(following, 0, os.SEEK_END)

    def _open_segment(self, number: int) -> int:
        path = f"{self._logs}/{segment_name(number)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW  # no O_APPEND: splice(2) refuses it with EINVAL
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:  # a project may have removed its logs
            os.mkdir(self._logs, 0o700)  # not what is above: where somebody deleted the store, nothing of it comes back
            return os.open(path, flags, 0o600)


def open_writer(reader: int) -> int:
    """A blocking read-write descriptor of the same FIFO, for the project's standard output."""
    return os.open(f"/proc/self/fd/{reader}", os.O_RDWR)
