"""One stream of a project's output as a row of bytes, where the release has its streams told apart.

Both streams lie in the same segments in the order of their arrival; the marks in `output-*.streams` say which bytes are of
which (segments.py). A row of one stream is then the same as any output: lines, tails and followers know no difference.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from typing import Dict, Iterator, Tuple

from agent.store.layout import ProjectLayout
from agent.store.output import Output, Segment, open_logs, open_plain
from agent.store.segments import STDOUT, STREAM_MARK_BYTES, streams_name


class _Ranges:
    """Where in one segment the bytes of a stream are: ranges by their begin, and how many of its bytes come before each."""

    def __init__(self, layout: ProjectLayout, number: int, stream: int) -> None:
        self._layout = layout
        self._name = streams_name(number)
        self._stream = stream
        self._current = STDOUT
        self._marks_read = 0
        self._at = 0
        self._begins = array("q")
        self._before = array("q")
        self.size = 0

    def extend(self, length: int) -> None:
        """Take in the segment up to its `length`. (The mark of a byte is there before the byte is.)"""
        for offset, stream in self._marks():
            if offset >= length:
                break
            self._take(offset)
            self._current = stream
            self._marks_read += 1
        self._take(length)

    def _take(self, end: int) -> None:
        count = end - self._at
        if self._current == self._stream and count > 0:
            self._begins.append(self._at)
            self._before.append(self.size)
            self.size += count
        self._at = max(self._at, end)

    def _marks(self) -> Iterator[Tuple[int, int]]:
        """Those that were not read yet."""
        logs = open_logs(self._layout)
        fd = open_plain(logs, self._name) if logs is not None else None
        if logs is not None:
            os.close(logs)
        if fd is None:
            return
        try:
            at = self._marks_read * STREAM_MARK_BYTES
            while True:
                line = os.pread(fd, STREAM_MARK_BYTES, at)
                if len(line) < STREAM_MARK_BYTES:
                    return
                at += len(line)
                offset, stream = line[1:-2].split(b",")
                yield int(offset), int(stream)
        finally:
            os.close(fd)

    def place(self, position: int) -> Tuple[int, int]:
        """Where in the segment that byte of the stream is, and how many of its bytes follow there without a break."""
        index = bisect_right(self._before, position) - 1
        end = self._before[index + 1] if index + 1 < len(self._before) else self.size
        return self._begins[index] + position - self._before[index], end - position

    def count(self, offset: int) -> int:
        """How many bytes of the stream are before that place in the segment."""
        index = bisect_right(self._begins, offset) - 1
        if index < 0:
            return 0
        end = self._before[index + 1] if index + 1 < len(self._before) else self.size
        return min(self._before[index] + offset - self._begins[index], end)


class OneStream(Output):
    """The row of bytes of one stream. Segments' sizes are those of its bytes in them."""

    def __init__(self, layout: ProjectLayout, stream: int) -> None:
        self._stream = stream
        self._ranges: Dict[int, _Ranges] = {}
        super().__init__(layout)

    def _append(self, segment: Segment) -> None:
        ranges = self._ranges[segment.number] = _Ranges(self._layout, segment.number, self._stream)
        ranges.extend(segment.size)
        super()._append(segment._replace(size=ranges.size))

    def _measure(self, last: Segment) -> bool:
        ranges = self._ranges[last.number]
        ranges.extend(os.fstat(last.fd).st_size)
        if ranges.size <= last.size:
            return False
        self._segments[-1] = last._replace(size=ranges.size)
        self.size += ranges.size - last.size
        return True

    def _before(self, segment: Segment, offset: int) -> int:
        return self._ranges[segment.number].count(offset)

    def _piece(self, segment: Segment, offset: int, count: int) -> bytes:
        place, follow = self._ranges[segment.number].place(offset)
        return super()._piece(segment, place, min(count, follow))

    def forget(self, position: int) -> None:
        """As of any output."""
        super().forget(position)
        kept = {segment.number for segment in self._segments}
        self._ranges = {number: ranges for number, ranges in self._ranges.items() if number in kept}
