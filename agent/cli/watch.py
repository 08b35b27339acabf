"""What a launch is doing while its call is waiting for the verdict: a line on stderr for each change of the project's status."""

from __future__ import annotations

import sys
import threading
import time
from typing import Optional

from agent.cli.printing import paint, printable
from agent.client import Client
from agent.errors import AgentError, NotFound

_LOOK_SECONDS = 0.25


class Watch:
    """Looks from `start` on until it is closed; the call itself goes on beside it, on a connection of its own."""

    def __init__(self, agent: Client, project: str) -> None:
        self._agent = agent
        self._project = project
        self._over = threading.Event()
        self._thread: Optional[threading.Thread] = None

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(2 * _LOOK_SECONDS)

    def start(self, sentence: str) -> None:
        """Say what has been done, and look from now on. Again, as when a broken connection is tried again, is nothing new."""
        if self._thread is not None:
            return
        self._started = time.monotonic()
        self._say(sentence)
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        last = self._ask()
        while not self._over.wait(_LOOK_SECONDS):
            now = self._ask()
            if now not in (None, last) and not self._over.is_set():
                last = now
                self._say(str(now))

    def _ask(self) -> Optional[str]:
        """`starting: its hooks run`; None where there is nothing to say, also when the agent is too busy to say it."""
        try:
            status = self._agent.status(self._project)
        except NotFound:
            return "not there yet"
        except AgentError:
            return None
        state, explanation = printable(status.get("state")), printable(status.get("explanation"))
        return explanation if explanation.startswith(state) else f"{state}: {explanation}" if explanation != "-" else state

    def _say(self, sentence: str) -> None:
        seconds = f"{time.monotonic() - self._started:6.1f} s"
        sys.stderr.write(f"{paint(seconds, 'dim')}  {sentence}\n")
        sys.stderr.flush()
