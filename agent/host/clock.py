"""Wall time as text. Durations are always measured on the monotonic clock, never with this."""

from __future__ import annotations

import time
from typing import Optional


def timestamp(seconds: Optional[float] = None) -> str:
    """Seconds since the epoch (default: now) as `2026-01-31T12:04:31.250Z` (RFC 3339, UTC)."""
    seconds = time.time() if seconds is None else seconds
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{milliseconds:03d}Z"


def from_timestamp(text: str) -> float:
    """Seconds since the epoch of what `timestamp` wrote; ValueError for what it can't have written."""
    import calendar  # here: a shim never comes here, and would pay in memory for what this imports

    # by its places: strptime(3) would be most of the time that the status of a project takes
    parts = int(text[:4]), int(text[5:7]), int(text[8:10]), int(text[11:13]), int(text[14:16]), int(text[17:19])
    whole = calendar.timegm(parts)
    if timestamp(whole)[:19] != text[:19]:
        raise ValueError(f"{text} is no time")
    return whole + float(text[19:-1] or 0)
