"""How often something may be tried: some at once, then so many a second. Bounded memory, forgotten by itself."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Callable


class Bucket:
    """`burst` takes at once, then `rate` a second."""

    def __init__(self, burst: float, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._rate, self._clock = burst, rate, clock
        self._left, self._at = burst, clock()

    def take(self) -> float:
        """0 when it was taken, else the seconds until the next one may be."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return (1 - self._left) / self._rate
        self._left -= 1
        return 0.0


class Attempts:
    """A bucket for each address; the one that was quiet for longest is forgotten when there are too many."""

    def __init__(
        self, burst: float = 60, rate: float = 10, addresses: int = 1024, clock: Callable[[], float] = time.monotonic
    ) -> None:  # fmt: skip
        self._burst, self._rate, self._addresses, self._clock = burst, rate, addresses, clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, address: str) -> float:
        """As Bucket.take, for this address alone."""
        bucket = self._buckets.pop(address, None) or Bucket(self._burst, self._rate, self._clock)
        self._buckets[address] = bucket
        if len(self._buckets) > self._addresses:
            self._buckets.popitem(last=False)
        return bucket.take()

    def __len__(self) -> int:
        return len(self._buckets)
