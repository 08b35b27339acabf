"""How many slow calls run at once, so that they never take the last workers from the quick ones."""

from __future__ import annotations

import threading
from typing import Callable, Dict

from agent.errors import Busy


class Lane:
    """Room for `limit` calls at a time. Use it as a context manager; Busy when it is full. `resize` hears how many there are."""

    def __init__(self, name: str, limit: int, resize: Callable[[int], None] = lambda active: None) -> None:
        self._name = name
        self._limit = limit
        self._resize = resize
        self._active = 0
        self._lock = threading.Lock()

    def require_room(self) -> None:
        """Busy when a call would be refused now."""
        if self._active >= self._limit:
            raise Busy(
                f"{self._limit} calls of this kind ({self._name}) are under way, which is the limit.",
                "Call again in a few seconds.",
                retry_after_seconds=5,
            )

    def __enter__(self) -> None:
        with self._lock:
            self.require_room()
            self._resize(self._active + 1)
            self._active += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._active -= 1
            self._resize(self._active)


def make_lanes(threads: int, launches: int, set_threads: Callable[[int], None]) -> Dict[str, Lane]:
    """Four workers always stay for the quick calls, and four for kill: a host full of stuck launches can be emptied.

    A launch mostly waits; beyond those that the `threads` have room for, each brings one of its own for as long as it takes.
    """
    launch = Lane("launch", launches, lambda active: set_threads(max(threads, active + 8)))
    return {"launch": launch, "kill": Lane("kill", 4), "quick": Lane("quick", threads)}
