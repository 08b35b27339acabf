"""The one place of the tests that waits: until something is so, or a deadline has passed."""

from __future__ import annotations

import os
import threading
import time
from typing import Callable, Optional, TypeVar, Union

Result = TypeVar("Result")

#: Deadlines are written for a machine at rest. They only bound a failure, so a busy one may take this many times as long.
PATIENCE = float(os.environ.get("ANT_TEST_PATIENCE", "4"))
_FIRST_PAUSE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 0.1


def eventually(
    predicate: Callable[[], Optional[Result]],
    deadline_seconds: float = 10.0,
    message: Union[str, Callable[[], str]] = "",
) -> Result:
    """The first true result of `predicate`. AssertionError with `message` and the last result at the deadline."""
    deadline = time.monotonic() + deadline_seconds * PATIENCE
    pause = _FIRST_PAUSE_SECONDS
    never = threading.Event()
    while True:
        result = predicate()
        if result:
            return result
        if time.monotonic() >= deadline:
            what = message() if callable(message) else message
            raise AssertionError(f"not within {deadline_seconds * PATIENCE:g} s: {what or predicate}; last result: {result!r}")
        never.wait(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
