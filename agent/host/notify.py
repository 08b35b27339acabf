"""What a service manager is told (sd_notify(3), sd_watchdog_enabled(3)): one datagram to $NOTIFY_SOCKET, without libsystemd.

It is told again and again what is so, not once what has changed. So any message may be lost, and whoever takes
over as the main process need not know what the last one said.
"""

from __future__ import annotations

import socket
import time
from typing import Dict, Mapping

#: How often the manager is told where it asks for no watchdog.
_PERIOD_SECONDS = 20.0


class Notifier:
    """Tells the manager that its service is ready and alive; without an `address` there is none, and nothing is sent.

    `watchdog_seconds` is how long it may stay silent; 0 where nobody watches.
    """

    def __init__(self, address: str = "", watchdog_seconds: float = 0.0) -> None:
        self._address = address
        self._watchdog_seconds = watchdog_seconds
        self._is_stopping = False
        self._told = ""
        self.due = 0.0

    def __bool__(self) -> bool:
        return bool(self._address)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Notifier:
        """What this environment names. An address or a time that makes no sense counts as none."""
        address = environ.get("NOTIFY_SOCKET", "")
        usec = environ.get("WATCHDOG_USEC", "")
        seconds = int(usec) / 1e6 if usec.isascii() and usec.isdigit() else 0.0
        return cls(address if address[:1] in ("/", "@") else "", seconds)

    @property
    def environment(self) -> Dict[str, str]:
        """What tells the same to a successor. There is no WATCHDOG_PID in it: that one has another pid."""
        if not self._address:
            return {}
        usec = {"WATCHDOG_USEC": str(round(self._watchdog_seconds * 1e6))} if self._watchdog_seconds else {}
        return {"NOTIFY_SOCKET": self._address, **usec}

    def beat(self, is_ready: bool) -> float:
        """Say how it stands, if that has changed or it is time; when (monotonic clock) to call again, 0 for never.

        A third of what the watchdog allows, so that two in a row may be lost.
        """
        if not self._address:
            return 0.0
        state = "STOPPING=1" if self._is_stopping else "READY=1" if is_ready else ""
        now = time.monotonic()
        if state != self._told or now >= self.due:
            alive = ["WATCHDOG=1"] if self._watchdog_seconds else []
            was_sent = self.send(*filter(None, (state, *alive)))
            self._told = state if was_sent else ""
            self.due = now + (self._watchdog_seconds / 3 or _PERIOD_SECONDS if was_sent else 0.5)
        return self.due

    def stopping(self) -> None:
        """From now on it is."""
        self._is_stopping = True

    def send(self, *assignments: str) -> bool:
        """One message. False when the manager could not take it; never waits for it."""
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            try:
                sender.sendto("\n".join(assignments).encode(), socket.MSG_DONTWAIT, address)
            except OSError:
                return False
        return True
