"""When output came, and of which stream it is: marks beside it, since the output's own bytes are kept as they are."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Optional

from agent import SCHEMA
from agent.host import files
from agent.host.clock import timestamp
from agent.store.layout import ProjectLayout
from agent.store.segments import (
    EVENTS_BYTES,
    MARK_BYTES,
    STDOUT,
    STREAM_MARK_BYTES,
    TIMES_LIMIT_BYTES,
    mark,
    older,
    stream_mark,
    streams_name,
    times_path,
)

#: Between two lines on rotations, so that a flood does not push the other events out of their file.
_ROTATIONS_SECONDS = 10.0
_ROTATED = b'{"schema": %d, "at": "%s", "event": "rotated", "from": %d, "to": %d}\n'


class Times:
    """Writes `logs/times.jsonl`. A mark says: at this time the next byte of output was to be this one.

    There is one before the first byte that comes a second or more after the last mark, so what stands between
    two marks came within a second of the first. Rotations since `segment` are told among the events. A disk that refuses
    costs the mark. (No json here: what a shim does for months must leave its memory alone.)
    """

    def __init__(self, layout: ProjectLayout, segment: int) -> None:
        self._path = times_path(layout.logs)
        self._events = layout.events
        self._next_clock = self._next_telling = 0.0
        self._told = segment

    def note(self, segment: int, offset: int) -> None:
        """Output is about to be moved to this position."""
        now = time.monotonic()
        if now < self._next_clock:
            return
        self._next_clock = now + 1.0
        at = timestamp()
        self._append(mark(at, segment, offset))
        if segment != self._told and now >= self._next_telling:
            line = _ROTATED % (SCHEMA, at.encode(), self._told, segment)
            with contextlib.suppress(OSError):
                files.append(self._events, line, EVENTS_BYTES)
            self._told, self._next_telling = segment, now + _ROTATIONS_SECONDS

    def _append(self, line: bytes) -> None:
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                marks = os.fstat(fd).st_size // MARK_BYTES  # a torn one, of a full disk or a power cut, is written over
                os.pwrite(fd, line, marks * MARK_BYTES)
                if (marks + 1) * MARK_BYTES >= TIMES_LIMIT_BYTES:
                    os.rename(self._path, older(self._path))
            finally:
                os.close(fd)
        except OSError:
            return


class Marks:
    """Writes `logs/output-*.streams` beside one segment. `size` is how long the file is.

    A disk that refuses costs the mark, and the next bytes try again.
    """

    def __init__(self, logs: str, number: int) -> None:
        self._path = f"{logs}/{streams_name(number)}"
        try:
            self.size = os.lstat(self._path).st_size
        except OSError:
            self.size = 0
        # of what another shim marked last nothing is known
        self._stream: Optional[int] = None if self.size else STDOUT

    def note(self, stream: int, offset: int) -> None:
        """What is moved to `offset` is of this stream."""
        if stream == self._stream:
            return
        with contextlib.suppress(OSError):
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                at = self.size // STREAM_MARK_BYTES * STREAM_MARK_BYTES  # a torn one is written over
                os.pwrite(fd, stream_mark(offset, stream), at)
                self.size, self._stream = at + STREAM_MARK_BYTES, stream
            finally:
                os.close(fd)
