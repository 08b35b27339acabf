"""Wall time as text. Durations are always measured on the monotonic clock, never with this."""

from __future__ import annotations

import calendar
import time
from typing import Optional


def timestamp(seconds: Optional[float] = None) -> str:
    """Seconds since the epoch (default: now) as `2026-01-31T12:04:31.250Z` (RFC 3339, UTC)."""
    seconds = time.time() if seconds is None else seconds
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{milliseconds:03d}Z"


def from_timestamp(text: str) -> float:
    """Seconds since the epoch of what `timestamp` wrote."""
    return calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) + float(text[19:-1] or 0)
