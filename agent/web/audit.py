"""The audit log: who changed what, from where, with what verdict; and who tried without a key.

A line holds names and digests, never a key, a secret or a value of an environment.
"""

from __future__ import annotations

import sys
from typing import Any, Dict, Mapping, Optional

from agent.host import clock, files
from agent.web.attempts import Bucket
from agent.web.caller import Caller

#: Two files of this size at most.
AUDIT_BYTES = 8 << 20
_SUBJECT = ("project", "version", "digest", "name")


class Audit:
    """Appends to `path`. A line that can't be written is said on stderr and fails no call."""

    def __init__(self, path: str, burst: float = 60, rate: float = 2) -> None:
        self._path = path
        self._refusals = Bucket(burst, rate)
        self._unrecorded = 0

    def note(self, what: str, caller: Caller, status: int, verdict: str, subject: Mapping[str, Any]) -> None:
        """One call that changed something, or was refused. `verdict`: the reply's status, or the problem's kind."""
        named = {name: subject[name] for name in _SUBJECT if isinstance(subject.get(name), str)}
        who = {"who": caller.name, "role": caller.role, "from": caller.address}
        self._append({**who, "what": what, **named, "status": status, "verdict": verdict})

    def note_stranger(self, what: Optional[str], address: str, status: int, verdict: str, tried: str) -> None:
        """One call without a good key. Of a flood only some are written; the next line says how many were not."""
        if self._refusals.take():
            self._unrecorded += 1
            return
        line: Dict[str, Any] = {"who": None, "from": address, "what": what, "tried": tried or "no key"}
        if self._unrecorded:
            line["unrecorded"], self._unrecorded = self._unrecorded, 0
        self._append({**line, "status": status, "verdict": verdict})

    def _append(self, line: Dict[str, Any]) -> None:
        try:
            files.append_line(self._path, {"at": clock.timestamp(), **line}, AUDIT_BYTES)
        except OSError as error:
            sys.stderr.write(f"{self._path} can't be written: {error.strerror}: {line}\n")
