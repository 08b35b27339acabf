"""Output as text: the lines of a run, of a stretch of time, the last ones, those with some text in them, or those to come.

Everything is a place in the row of bytes (output.py), so a line of any length costs no memory, and each step
looks at a bounded number of bytes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Optional, Tuple

from agent.store.output import BLOCK_BYTES, Output, open_directory

#: How much one step searches at most, so that many readers share one thread.
_STEP_BYTES = 4 << 20
#: What has no newline for so long is judged as it is, by a reader that follows.
_LONG_LINE_BYTES = 1 << 20


@dataclass(frozen=True)
class TextQuery:
    """What of the output is asked for. Times are seconds since the epoch; `grep` is a plain piece of a line.

    `run` is a run's number, 0 for the last; `stream` one of segments.py, None for what there is of both. `place` is a mark of
    an earlier answer to the same question, which this one goes on with; `marks` asks for them.
    """

    tail: Optional[int] = None
    since: Optional[float] = None
    until: Optional[float] = None
    grep: bytes = b""
    run: Optional[int] = None
    follow: bool = False
    stream: Optional[int] = None
    place: Optional[Tuple[int, int]] = None
    marks: bool = False


def tail_begin(output: Output, begin: int, end: int, count: int, grep: bytes = b"") -> int:
    """Where the last `count` lines (those with `grep` in them) begin, found from the end backwards."""
    at = end
    for _ in range(count):
        last = output.find_last(grep, begin, at) if grep else at - 1  # its own newline ends the last line
        if last < begin:
            return at
        at = output.find_last(b"\n", begin, last) + 1 or begin
    return at


class Text:
    """A stream of the lines from `begin` to `end`, or without end for as long as the folder `alive` is this one, and not another
    of its name that came after a purge.

    It owns the output. `waits`: there is nothing to be had before something happens.
    """

    def __init__(
        self, output: Output, begin: int, end: Optional[int], grep: bytes = b"", alive: str = "", is_inside: bool = False
    ) -> None:  # fmt: skip
        self.is_live = end is None
        self.waits = False
        self._output = output
        self._end = end
        self._grep = grep
        self._alive = alive
        self._folder = open_directory(None, alive) if self.is_live else None
        self._at = self._searched = begin
        self._line_end: Optional[int] = None
        if is_inside:  # the rest of a line that was found to be one of these
            self._line_end = output.find(b"\n", begin, output.size) + 1 or output.size
        self._has_more = True

    @property
    def place(self) -> Tuple[int, int]:
        """Behind what was given so far: a segment, and how many bytes of it are before."""
        return self._output.place(self._at)

    def step(self) -> Optional[bytes]:
        """The next bytes, or b"" when there are none yet; None at the end.

        LookupError when what comes next was rotated away before it was read; OSError if it can't be read.
        """
        self.waits = False
        if not self._has_more:
            if not self.is_live or not self._is_there():
                return None
            self._output.forget(self._at)
            if not self._output.grow():
                self.waits = True
                return b""
        end = self._output.size if self._end is None else self._end
        return self._filtered(end) if self._grep else self._plain(end)

    def _plain(self, end: int) -> bytes:
        data = self._output.read(self._at, end)
        self._at += len(data)
        self._has_more = self._at < end and bool(data)
        return data

    def _filtered(self, end: int) -> bytes:
        """Some bytes of lines with `grep` in them."""
        parts, size = [], 0
        limit = min(end, self._searched + _STEP_BYTES)
        while size < BLOCK_BYTES and (self._line_end is not None or self._find_line(limit, end)):
            part = self._output.read(self._at, self._line_end or 0)
            parts.append(part)
            size += len(part)
            self._at += len(part)
            if not part or self._at == self._line_end:
                self._at = self._searched = self._line_end or 0
                self._line_end = None
        self._has_more = self._line_end is not None or limit < end or size >= BLOCK_BYTES
        return b"".join(parts)

    def _find_line(self, limit: int, end: int) -> bool:
        """Go to the next line with `grep` in it, where that begins before `limit`; False when there is no whole one."""
        hit = self._output.find(self._grep, self._searched, limit)
        self._searched = hit if hit >= 0 else max(self._searched, limit - len(self._grep) + 1)
        self._at = max(self._at, self._output.find_last(b"\n", self._at, self._searched) + 1)
        if hit < 0:
            return False
        stop = self._output.find(b"\n", hit, end) + 1
        if not stop and self.is_live and end - hit < _LONG_LINE_BYTES:
            return False
        self._line_end = stop or end
        return True

    def _is_there(self) -> bool:
        try:
            return self._folder is not None and os.path.samestat(os.fstat(self._folder), os.stat(self._alive))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Let go of the output; a second call does nothing."""
        self._output.close()
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None


class Marked:
    """A text in pieces, each behind a line `SEGMENT.OFFSET BYTES`: the place behind the piece, and how long the piece is.

    The first piece is empty. Whoever loses the connection asks again for what is behind the last whole piece.
    """

    def __init__(self, text: Text) -> None:
        self.is_live = text.is_live
        self.waits = False
        self.close = text.close
        self._text = text
        self._is_first = True

    def step(self) -> Optional[bytes]:
        """As of the text."""
        data = b"" if self._is_first else self._text.step()
        self.waits = self._text.waits
        if data or self._is_first:
            data = b"%d.%d %d\n" % (*self._text.place, len(data or b"")) + (data or b"")
        self._is_first = False
        return data
