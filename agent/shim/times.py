"""When output came: one mark a second beside it, since the output's own bytes are kept as they are."""

from __future__ import annotations

import contextlib
import os
import time

from agent.host import clock
from agent.store.segments import MARK_BYTES, TIMES_LIMIT_BYTES, mark, older, times_path


class Times:
    """Writes `logs/times.jsonl`. A mark says: at this time the next byte of output was to be this one.

    There is one before the first byte that comes a second or more after the last mark, so what stands between
    two marks came within a second of the first. A disk that refuses costs the mark.
    """

    def __init__(self, logs: str) -> None:
        self._path = times_path(logs)
        self._next_clock = 0.0

    def note(self, segment: int, offset: int) -> None:
        """Output is about to be moved to this position."""
        now = time.monotonic()
        if now < self._next_clock:
            return
        self._next_clock = now + 1.0
        with contextlib.suppress(OSError):
            self._append(mark(clock.timestamp(), segment, offset))

    def _append(self, line: bytes) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            marks = os.fstat(fd).st_size // MARK_BYTES  # a torn one, of a full disk or a power cut, is written over
            os.pwrite(fd, line, marks * MARK_BYTES)
            if (marks + 1) * MARK_BYTES >= TIMES_LIMIT_BYTES:
                os.rename(self._path, older(self._path))
        finally:
            os.close(fd)
