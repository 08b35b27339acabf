"""Eight clients of one agent, as a process of their own: 500 calls a second on new and on kept connections, one that is
idle between two calls, one whose calls take 1.5 s, and one that always has an upload under way.

    python -m tests.support.callers    {"address": […], "token": …, "project": …, "slow": …, "artifact": …} on standard input

Prints `ready` once each has had an answer, and at the end of standard input what became of all calls.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Tuple

import build

NEW, KEPT = 3, 2
_PERIOD_SECONDS = 1 / 100  # of each of those five
#: Who was late is in time again by calling without a pause, for as much as this.
_CATCH_UP_SECONDS = 0.5
_IDLE_SECONDS = 2.5
_PIECES, _PIECE_PAUSE_SECONDS = 20, 0.1
_TIMEOUT_SECONDS = 120.0


#: (client, what, begun, ended), monotonic clock.
Failure = Tuple[str, str, float, float]


@dataclass
class Outcomes:
    """What became of the calls: how many of each client were `answered`, and what happened to the others, in that time."""

    answered: Counter[str] = field(default_factory=Counter)
    failures: List[Failure] = field(default_factory=list)
    seconds: float = 0.0

    def of(self, *words: str) -> List[Failure]:
        """The failures of these kinds."""
        return [failure for failure in self.failures if failure[1].split()[0] in words]

    def lost(self, *clients: str) -> int:
        """How many calls of these clients had no answer."""
        return sum(failure[0] in clients for failure in self.of("lost"))

    def __str__(self) -> str:
        found = Counter(f"{client}: {what}" for client, what, _, _ in self.failures)
        rate = sum(self.answered.values()) / (self.seconds or 1.0)
        return f"answered {dict(self.answered)}; failed {dict(found)}; {rate:.0f} calls a second for {self.seconds:.0f} s"


class Callers:
    """The clients as a context manager; `outcomes` is there once it is left."""

    def __init__(self, host: Any, project: str, slow: str, artifact: str) -> None:
        self.outcomes = Outcomes()
        setup = {"address": host.address, "token": host.token, "project": project, "slow": slow, "artifact": artifact}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.callers"], cwd=build.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._say(json.dumps(setup))

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def __enter__(self) -> Callers:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        output, _ = self._process.communicate()
        document = json.loads(output)
        self.outcomes.answered.update(document["answered"])
        self.outcomes.seconds = document["seconds"]
        self.outcomes.failures += [(client, what, begun, ended) for client, what, begun, ended in document["failures"]]


class Client:
    """One client: what it asks, and on which connection."""

    def __init__(self, setup: Dict[str, Any], outcomes: Outcomes, name: str) -> None:
        self.name = name
        self.outcomes = outcomes
        self.has_had_one = threading.Event()
        self._setup = setup
        self._due = 0.0
        self._kept: Optional[http.client.HTTPConnection] = None

    def _open(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self._setup["address"], timeout=_TIMEOUT_SECONDS)

    def ask(self, method: str, path: str, body: Callable[[http.client.HTTPConnection], None], keep: bool = False) -> None:
        """One call. `stale` is a kept connection that was closed meanwhile: any client then takes another (RFC 9112, 9.3.1)."""
        begun = time.monotonic()
        connection, self._kept = self._kept or self._open(), None
        is_fresh = connection.sock is None
        try:
            what = self._exchange(connection, method, path, body)
        except ConnectionRefusedError:
            what = "refused"
        except (OSError, http.client.HTTPException) as error:
            what = f"lost {type(error).__name__}" if is_fresh else f"stale {type(error).__name__}"
        if keep and what == "answered" and connection.sock is not None:
            self._kept = connection
        else:
            connection.close()
        if what == "answered":
            self.outcomes.answered[self.name] += 1
            self.has_had_one.set()
            return
        self.outcomes.failures.append((self.name, what, begun, time.monotonic()))

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Callable[[http.client.HTTPConnection], None]
    ) -> str:
        connection.putrequest(method, path)
        connection.putheader("Authorization", f"Bearer {self._setup['token']}")
        body(connection)
        answer = connection.getresponse()
        answer.read()
        return "answered" if answer.status == 200 else f"status {answer.status} {method} {path}"

    def _await_next(self) -> None:
        """Until the next call is due, so that so many are made a second whatever each of them takes."""
        now = time.monotonic()
        self._due = max(self._due + _PERIOD_SECONDS, now - _CATCH_UP_SECONDS)
        time.sleep(max(0.0, self._due - now))

    # -- what they do; each of these is called again and again

    def new(self) -> None:
        self.ask("GET", f"/project/{self._setup['project']}", _nothing)
        self._await_next()

    def ping(self) -> None:
        self.ask("GET", "/ping", _nothing)
        self._await_next()

    def kept(self) -> None:
        self.ask("GET", f"/project/{self._setup['project']}", _nothing, keep=True)
        self._await_next()

    def kept_ping(self) -> None:
        self.ask("GET", "/ping", _nothing, keep=True)
        self._await_next()

    def idle(self) -> None:
        self.ask("GET", f"/project/{self._setup['project']}", _nothing, keep=True)
        time.sleep(_IDLE_SECONDS)

    def slow(self) -> None:
        self.ask("POST", f"/project/{self._setup['slow']}/restart", _empty)

    def upload(self) -> None:
        self.ask("POST", f"/project?project={self._setup['project']}", self._slowly)

    def _slowly(self, connection: http.client.HTTPConnection) -> None:
        with open(self._setup["artifact"], "rb") as file:
            data = file.read()
        connection.putheader("Content-Type", "application/octet-stream")
        connection.putheader("Content-Length", str(len(data)))
        connection.endheaders()
        size = len(data) // _PIECES + 1
        for start in range(0, len(data), size):
            connection.send(data[start : start + size])
            time.sleep(_PIECE_PAUSE_SECONDS)


def _nothing(connection: http.client.HTTPConnection) -> None:
    connection.endheaders()


def _empty(connection: http.client.HTTPConnection) -> None:
    connection.putheader("Content-Length", "0")
    connection.endheaders()


def main() -> None:
    """Run until standard input ends."""
    setup, outcomes, ended = json.loads(sys.stdin.readline()), Outcomes(), threading.Event()
    clients: List[Client] = []

    def repeat(act: Callable[[], None]) -> None:
        while not ended.is_set():
            act()

    for name in ("new", "new", "ping", "kept", "kept_ping", "idle", "slow", "upload"):
        clients.append(Client(setup, outcomes, name))
        threading.Thread(target=repeat, args=(getattr(clients[-1], name),), daemon=True).start()
    for client in clients:
        client.has_had_one.wait()
    print("ready", flush=True)
    outcomes.answered.clear()
    began = time.monotonic()
    sys.stdin.read()
    ended.set()
    seconds = time.monotonic() - began
    print(json.dumps({"answered": outcomes.answered, "failures": outcomes.failures, "seconds": seconds}), flush=True)
    os._exit(0)  # what is still under way is nobody's business any more


if __name__ == "__main__":
    main()
