"""What a shim tells: the record, its own events beside the output, and the project's history."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any, Dict, Optional, Tuple

from agent.host import clock, files
from agent.model import ExitCause, cause_to_json
from agent.shim import machine
from agent.shim.record import EXITS_KEPT, Record, read_record, write_record
from agent.store.layout import ProjectLayout
from agent.store.segments import EVENTS_BYTES, STORE_EVENTS_BYTES

_HISTORY_BYTES = 4 << 20
#: Transitions that the whole store's events tell of, by the name that they have there.
_ANNOUNCED = {machine.PROVED: "ready", machine.RETRY: "backoff"}


class Journal:
    """Holds the one record of a project and writes it; `record` is what was published last, or is about to be.

    `fallback` is what a launch that fails goes back to.
    """

    def __init__(self, layout: ProjectLayout) -> None:
        self._layout = layout
        self.record = read_record(layout) or Record(layout.project)
        self.fallback: Optional[str] = None

    def note(self, **changes: Any) -> None:
        """Change the record without publishing it yet."""
        outcome = changes.get("outcome")
        self.record = replace(self.record, **changes)
        if outcome is not None and outcome.ready:
            self.announce("launched", version=outcome.version)
        elif outcome is not None:
            reason, back = outcome.reason, self.fallback
            self.announce("reverted" if back else "rejected", version=outcome.version, reason=reason, running=back)

    def publish(self, **changes: Any) -> None:
        """Change the record and write it."""
        self.note(**changes)
        write_record(self._layout, self.record)

    def go(self, event: str, explanation: str, **changes: Any) -> None:
        """Take the machine's transition and publish it with its explanation."""
        state = machine.next_state(self.record.state, event)
        self.publish(state=state, since=clock.timestamp(), explanation=explanation, **changes)
        if event in _ANNOUNCED:
            self.announce(_ANNOUNCED[event], version=self.record.version, explanation=explanation)

    def event(self, name: str, **members: Any) -> bool:
        """One line of `logs/events.jsonl`; whether the disk took it."""
        line = {"at": clock.timestamp(), "event": name, "run": self.record.run, **members}
        return _append(self._layout.events, line, EVENTS_BYTES)

    def announce(self, name: str, **members: Any) -> None:
        """One line of the whole store's events."""
        line = {"at": clock.timestamp(), "project": self.record.project, "event": name, "run": self.record.run, **members}
        _append(self._layout.store.events, line, STORE_EVENTS_BYTES)

    def remember_end(
        self, cause: ExitCause, ran_seconds: float, by_itself: bool, killed: Tuple[Any, ...] = (), **which: Any
    ) -> None:  # fmt: skip
        """How a run ended (`which`: the `run` and `version`, if not those on record): an event, in the history, a last end."""
        entry = {
            "run": self.record.run, "version": self.record.version, **which, "ran_seconds": round(ran_seconds, 3),
            "by_itself": by_itself, "exit_cause": cause_to_json(cause),
        }  # fmt: skip
        self.event("exit", **{**entry, "killed": killed})
        self.announce("exited", **entry)
        entry = {"at": clock.timestamp(), **entry}
        self.note(exits=(*self.record.exits, entry)[-EXITS_KEPT:])
        _append(self._layout.history, {"event": "exit", **entry}, _HISTORY_BYTES)


def _append(path: str, line: Dict[str, Any], limit_bytes: int) -> bool:
    """A full disk costs the line, never the project."""
    try:
        files.append_line(path, line, limit_bytes)
    except OSError as error:
        sys.stderr.write(f"{path}: {error.strerror}\n")
        return False
    return True
