"""Where in the output a moment lies: by the marks that a shim writes once a second, else by the segments' own times.

What came while nobody wrote marks (an older shim, or marks that are gone) counts as if it had come at any time
within its segment, so that a search by time never leaves out what it should show.
"""

from __future__ import annotations

import json
import os
from typing import List, Tuple

from agent.host import clock
from agent.store.layout import ProjectLayout
from agent.store.output import Output, open_logs, open_plain
from agent.store.segments import MARK_BYTES, older, times_path

_SECOND = 1.0


class Timeline:
    """The marks beside one project's output, read where they are. Close it."""

    def __init__(self, layout: ProjectLayout, output: Output) -> None:
        self._output = output
        self._files: List[Tuple[int, int]] = []
        logs = open_logs(layout)
        if logs is None:
            return
        try:
            for name in (older(times_path("")), times_path("")):
                fd = open_plain(logs, name.lstrip("/"))
                if fd is not None:
                    self._files.append((fd, os.fstat(fd).st_size // MARK_BYTES))
        finally:
            os.close(logs)

    @property
    def _count(self) -> int:
        return sum(count for _, count in self._files)

    def since(self, moment: float) -> int:
        """From where on everything came at `moment` (seconds since the epoch) or later, give or take a second."""
        index, ends = self._first_after(moment - _SECOND), self._output.ends()
        written = next((self._output.start(n) for n, end in enumerate(ends) if end >= moment), self._output.size)
        if index == self._count and written < self._output.size:  # it was written after the last mark, without one
            return max(written, self._position(index - 1)) if index else written
        return min(self._position(index), written) if index == 0 else self._position(index)

    def until(self, moment: float) -> int:
        """Up to where everything came at `moment` or before, give or take a second."""
        index, ends = self._first_after(moment), self._output.ends()
        begun = next((self._output.start(n + 1) for n, end in enumerate(ends) if end > moment), self._output.size)
        return min(self._position(index), begun) if index == 0 else self._position(index)

    def _first_after(self, moment: float) -> int:
        """The number of the first mark later than `moment`; how many there are if none is."""
        wanted = clock.timestamp(max(0.0, moment))
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if self._mark(middle)[0] > wanted:
                high = middle
            else:
                low = middle + 1
        return low

    def _position(self, index: int) -> int:
        if index >= self._count:
            return self._output.size
        _, segment, offset = self._mark(index)
        return self._output.position(segment, offset)

    def _mark(self, index: int) -> Tuple[str, int, int]:
        for fd, count in self._files:
            if index < count:
                at, segment, offset = json.loads(os.pread(fd, MARK_BYTES, index * MARK_BYTES))
                return at, segment, offset
            index -= count
        raise IndexError(index)

    def close(self) -> None:
        """Close the files."""
        files, self._files = self._files, []
        for fd, _ in files:
            os.close(fd)
