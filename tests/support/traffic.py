"""Steady traffic on a project: new connections all the time, from several threads, and what failed of it."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Iterator, List, Tuple

from tests.support import http

THREADS = 4


@dataclass
class Traffic:
    """`answers` counts the bodies that came; `failures` has each request that got none, or another status than 200."""

    answers: Counter[str] = field(default_factory=Counter)
    failures: List[str] = field(default_factory=list)


@contextlib.contextmanager
def traffic(port: int, requests_per_second: float) -> Iterator[Traffic]:
    """GET / on 127.0.0.1:`port` for as long as the block lasts, at that rate or what the machine can do."""
    seen, ended = Traffic(), threading.Event()
    arguments = (("127.0.0.1", port), THREADS / requests_per_second, seen, ended)
    threads = [threading.Thread(target=_ask, args=arguments) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _ask(address: Tuple[str, int], pause_seconds: float, seen: Traffic, ended: threading.Event) -> None:
    while not ended.wait(pause_seconds):
        try:
            response = http.request(address, "GET", "/")
        except OSError as error:
            seen.failures.append(repr(error))
            continue
        if response.status == 200:
            seen.answers[response.body.decode()] += 1
        else:
            seen.failures.append(str(response))
