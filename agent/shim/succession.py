"""A new run beside the old one, on the same sockets, until it has proved itself; then it takes over, and the old one drains.

It is what the agent's own shim and those of projects have in common. Until the new run has proved itself the old one
is not touched, and one that fails is a visitor that is shown out.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any, Dict, Optional, Tuple

from agent.host import clock, files
from agent.model import ExitCause, FailedToStart, cause_to_json
from agent.shim.capsule import origin_of
from agent.shim.record import Outcome, Successor
from agent.shim.turn import Turn


class Succession(Turn):
    """One turn of a shim whose new release may start beside the old one."""

    def _succeed(self) -> None:
        """One step of the way from the run at work to the wanted one."""
        assert self.want is not None
        successor = self.record.successor
        if successor is None:
            self._start_successor(str(self.want.version))
        elif successor.is_retiring:
            self._hurry(successor)
        elif successor.generation != self.want.generation:
            self._show_out(successor)
        else:
            self._judge(successor)

    def _hurry(self, retiring: Successor) -> None:
        """A third run is wanted while the first still drains."""

    def _judge(self, successor: Successor) -> None:
        """Hand over to it, turn it away, or wait."""
        raise NotImplementedError

    def _show_out(self, successor: Successor) -> None:
        """End a successor that is not to take over."""
        raise NotImplementedError

    def _retire(self, retiring: Successor) -> None:
        """Tell the run that has handed over to finish what it has begun, and to end."""
        raise NotImplementedError

    def _retire_seconds(self) -> float:
        """How long the run at work may take for that."""
        raise NotImplementedError

    def _forget(self, successor: Successor) -> None:
        """Nothing of that run is left."""
        self.journal.note(successor=None)

    def _start_successor(self, version: str) -> None:
        assert self.want is not None
        run = self._next_run()
        release = self._read_release(version)
        if release is None:
            self._reject_successor(f"release {version} is not in the store", None, run)
            return
        segment, offset = self.seen.position
        self.journal.note(last_run=run)
        self.journal.event("start", run=run, version=version, segment=segment, offset=offset, beside=self.record.pid)
        spawned = self._forked(release, run, beside=True)
        if isinstance(spawned, FailedToStart):
            self._reject_successor(str(spawned), spawned, run)
            return
        successor = Successor(
            spawned.pid, spawned.start_time, version, self.want.generation, run, time.monotonic(), newer_start=spawned.start_time,
            older_mark=self._mark(), cgroup=spawned.group, began=self.seen.position, origin=origin_of(release, self.layout),
        )  # fmt: skip
        self.journal.publish(successor=successor, explanation=f"running; {version} proves itself beside it")
        failure = spawned.release()
        if failure is not None:
            os.waitpid(spawned.pid, 0)
            self._reject_successor(str(failure), failure, run)
            self._forget(successor)
            self.journal.publish()
        else:
            self._executed(successor)

    def _executed(self, successor: Successor) -> None:
        """The successor's program runs."""

    def _mark(self) -> str:
        """What the run at work, whose first process may be gone, has in its environment and no other has."""
        pid = self.record.pid or 0
        entries = (files.read_bytes(f"/proc/{pid}/environ") or b"").split(b"\0")
        return next((entry.decode() for entry in entries if entry.startswith(b"LISTEN_PID=")), f"LISTEN_PID={pid}")

    def _turn_away(self, successor: Successor, reason: str, cause: Optional[ExitCause] = None, **members: Any) -> None:
        self._reject_successor(reason, cause, successor.run, **members)
        self._show_out(replace(successor, ended=cause_to_json(cause) if cause is not None else None))

    def _steps(self) -> Tuple[Dict[str, Any], ...]:
        """What the preparation of the wanted release has done."""
        return self.record.steps if self.want is not None and self.record.prepared == self.want.generation else ()

    def _reject_successor(self, reason: str, cause: Optional[ExitCause], run: int, **members: Any) -> None:
        members["exit_cause"] = cause_to_json(cause) if cause is not None else None
        self._reject(reason, "start" if isinstance(cause, FailedToStart) else "ready", run=run, steps=self._steps(), **members)

    def _hand_over(self, successor: Successor, outcome: Outcome, **changes: Any) -> None:
        """From now on the successor is the run at work, and the old one finishes what it has begun."""
        now, record = time.monotonic(), self.record
        retiring = replace(
            successor, pid=record.pid or 0, start_time=record.start_time or 0, version=str(record.version), run=record.run,
            generation=record.generation, clock=record.started_clock, is_retiring=True, is_newer=False, cgroup=record.cgroup,
            ended=record.ended, adopted=record.adopted, deadline=now + self._retire_seconds(), origin=None,
        )  # fmt: skip
        self.release = self._read_release(successor.version)
        self.journal.event("succeeded", version=successor.version, pid=successor.pid, after=record.version)
        self.journal.note(
            pid=successor.pid, start_time=successor.start_time, version=successor.version, generation=successor.generation,
            run=successor.run, successor=retiring, outcome=outcome, started_clock=successor.clock, adopted=successor.adopted,
            started_at=clock.timestamp(time.time() - (now - successor.clock)), ended=successor.ended, cgroup=successor.cgroup,
            failures=0, restarts=0, settled=False, gone_clock=None, began=successor.began, peak_bytes=0, cpu_seconds=0.0,
            since=clock.timestamp(),
        )  # fmt: skip
        self.journal.publish(**changes)
        self._retire(retiring)
