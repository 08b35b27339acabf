"""The probes of the ping row, each as a process of its own, so that nothing else of the bench disturbs their clock.

    python -m tests.bench.probe ping HOST PORT SECONDS     50 pings a second, a new connection each
    python -m tests.bench.probe sleep SECONDS              how much too long sleeps of 20 ms take: the machine's jitter

Prints one JSON line: {"milliseconds": […], "failures": […]}.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import Callable, List

PINGS_PER_SECOND = 50
TIMEOUT_SECONDS = 5.0
_PING = b"GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def ping(host: str, port: int) -> None:
    """One ping on a connection of its own, to the end of the connection. OSError, or ValueError for another answer."""
    with socket.create_connection((host, port), timeout=TIMEOUT_SECONDS) as connection:
        connection.sendall(_PING)
        answer = b""
        while True:
            data = connection.recv(4096)
            if not data:
                break
            answer += data
    if not (answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"pong")):
        raise ValueError(f"answered {answer[:100]!r}")


def repeat(seconds: float, once: Callable[[float], float]) -> None:
    """Call `once(due)` at the fixed rate, never skipping one that is late, and print what it measured."""
    milliseconds: List[float] = []
    failures: List[str] = []
    started = time.monotonic()
    for number in range(int(seconds * PINGS_PER_SECOND)):
        try:
            milliseconds.append(once(started + number / PINGS_PER_SECOND))
        except (OSError, ValueError) as error:
            failures.append(f"{type(error).__name__}: {error}")
    print(json.dumps({"milliseconds": milliseconds, "failures": failures}), flush=True)


def main(words: List[str]) -> None:
    """The program."""

    def timed_ping(due: float) -> float:
        time.sleep(max(0.0, due - time.monotonic()))
        sent = time.monotonic()
        ping(words[1], int(words[2]))
        return 1000 * (time.monotonic() - sent)

    def timed_sleep(due: float) -> float:
        time.sleep(max(0.0, due - time.monotonic()))
        return 1000 * max(0.0, time.monotonic() - due)

    if words[0] == "ping":
        repeat(float(words[3]), timed_ping)
    else:
        repeat(float(words[1]), timed_sleep)


if __name__ == "__main__":
    main(sys.argv[1:])
