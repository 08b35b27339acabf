"""How a test tells a changed build of the agent at which step something is to happen to it, and learns which steps it took."""

from __future__ import annotations

import contextlib
import os
from typing import List


class StepFile:
    """`<what> <number>` in a file at `path`; beside it, in `<path>.steps`, a line for each step that was taken since."""

    def __init__(self, path: str) -> None:
        self.path = path

    def arm(self, what: object, number: int) -> None:
        """From now on steps are counted, and at the `number`-th it happens."""
        self.disarm()
        with open(self.path + ".new", "w", encoding="ascii") as file:
            file.write(f"{what} {number}")
        os.rename(self.path + ".new", self.path)

    def disarm(self) -> None:
        for path in (self.path, self.path + ".steps"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def steps(self) -> List[str]:
        """The steps so far: `pid name …`."""
        try:
            with open(self.path + ".steps", encoding="utf-8", errors="replace") as file:
                return file.read().splitlines()
        except FileNotFoundError:
            return []
