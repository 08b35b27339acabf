"""One turn of a shim: what was seen, what is on record and what is wanted go in; the next step is taken.

A turn remembers nothing between two calls. It reads the record and the want, learns what ended, takes the
one step that leads from what is to what is wanted, and publishes the record.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Callable, Optional

from agent.host import procfs
from agent.model import ExitCause, Exited, LogPolicy, UnknownExit, cause_from_json, cause_to_json
from agent.shim import ladder, machine
from agent.shim.child import end_of_adopted, take_over
from agent.shim.errand import AGAIN_SECONDS
from agent.shim.launching import Launching
from agent.shim.record import read_want
from agent.shim.resident import Answer
from agent.shim.tree import cause_of
from agent.shim.verdict import is_proving, is_superseded, outcome_of, version_to_run

#: How often a turn looks for itself at what nobody tells it.
_LOOK_SECONDS = 0.05
_LOOK_SELDOM_SECONDS = 5.0


class Turn(Launching):
    """One turn of a project's shim."""

    #: How long an adopted child's exit status may take to reach us: the agent's shim, a subreaper, has to reap it first.
    STATUS_SECONDS = 0.5

    #: What a shim that arrives waits for before it looks at what is wanted.
    wait: Optional[Callable[[], None]] = None

    def take(self) -> Answer:
        """Look, step, publish."""
        self.release = self._read_release(self.record.version)
        if self.seen.arriving:
            self._arrive()
            resident = self.seen.resident
            # before the want is read: whoever writes one from now on can poke us
            shim = {"pid": resident, "start_time": procfs.start_time(resident) or 0, "reads_drafts": 1}
            self.journal.publish(shim=shim)
            if self.wait is not None:
                self._get_ready()
                self.wait()
        elif self.record.state == machine.STARTING:  # the turn that began with it was ended before it could say how it went
            take_over(self.journal)
        self._tell_gap()
        self.want = read_want(self.layout)
        self.journal.fallback = self.want.fallback if self.want is not None else None
        self._look()
        self._step()
        if self.record.state == machine.RUNNING:
            self._has_proved()  # so that its checks begin at once
        policy = self.release.logs if self.release is not None else LogPolicy()
        record = self.record
        watch = record.pid if record.adopted and record.ended is None and record.gone_clock is None else None
        return Answer(self.done, self._due(), watch or 0, policy.segment_bytes, policy.segments, self.sockets.fds)

    def _tell_gap(self) -> None:
        """Of lost output as an event; for as long as the disk refuses that, too, it stays on record."""
        lost_bytes, *at = self.record.gap or (0, *self.seen.lost_at)
        lost_bytes += self.seen.lost_bytes
        if lost_bytes == 0:
            return
        where = {"segment": at[0], "offset": at[1]}
        told = self.journal.event("gap", lost_bytes=lost_bytes, **where, reason="the disk refused the log")
        gap = () if told else (lost_bytes, *at)
        if gap != self.record.gap:
            self.journal.publish(gap=gap)

    def _arrive(self) -> None:
        take_over(self.journal)

    def _due(self) -> float:
        """By when (monotonic clock) the next turn has to be taken even if nothing happens; 0 for never."""
        record, now = self.record, time.monotonic()
        due = []
        if record.state == machine.RUNNING:
            ends = self._proof_ends(self._on_trial())
            due.append(ends if now < ends else now + _LOOK_SECONDS)
            if record.errand is not None and self.errands.pid is None:
                due.append(record.errand.clock + AGAIN_SECONDS)
        if self.errands.is_silent or (record.state in (machine.EXITED, machine.FAILED) and not self.done):
            due.append(now + _LOOK_SECONDS)
        if record.gap:
            due.append(now + _LOOK_SELDOM_SECONDS)
        if record.state == machine.BACKOFF:
            due.append(record.next_start_clock)
        if record.stop is not None:
            due.append(ladder.due(record.stop, now))
        if record.adopted and record.pid is not None:
            is_told = self.seen.pidfd >= 0 and record.gone_clock is None and record.ended is None and record.stop is None
            due.append(now + (_LOOK_SELDOM_SECONDS if is_told else _LOOK_SECONDS))
        return min(due, default=0.0)

    # ------------------------------------------------------------------ what is, and the step from there

    def _look(self) -> None:
        """Learn what ended; if that was the last of the tree, the run is over."""
        last: Optional[ExitCause] = None
        ended = cause_from_json(self.record.ended)
        others = [beside.pid for beside in (self.record.errand, self.record.successor) if beside is not None]
        for pid, status in self.seen.ended:
            if pid in others:
                continue
            last = cause_of(status)
            self._note_usage(pid)
            if pid == self.record.pid:
                ended = ended or last
        if self.record.pid is None:
            return
        if ended is None and self.record.adopted:
            ended = end_of_adopted(self.journal, self.layout, self.seen.pidfd, self.STATUS_SECONDS)
        elif ended is None and self.seen.childless:
            ended = last or UnknownExit("its parent did not tell")
        if ended is None:
            return
        if self._is_empty():
            self._over(ended)
        elif self.record.ended is None:
            self.journal.publish(ended=cause_to_json(ended))

    def _note_usage(self, pid: int) -> None:
        used = self.seen.usage.get(pid)
        if used is not None:
            peak = max(used.peak_bytes, self.record.peak_bytes)
            self.journal.note(peak_bytes=peak, cpu_seconds=round(self.record.cpu_seconds + used.cpu_seconds, 3))

    def _is_empty(self) -> bool:
        """ECHILD is the kernel's word that nothing is left; where children hang elsewhere, a search is."""
        if self.errands.pid is not None and self.record.state != machine.STOPPING:
            return not self._tree().members()
        return self.seen.childless and not (self.record.adopted and self._tree().members())

    def _step(self) -> None:
        if self._is_preparing() and not self.seen.leaving:
            self._prepare()
        if self.record.state == machine.STOPPING:
            self._pursue_stop()
        elif self.record.state in machine.ALIVE:
            self._tend()
        elif self.record.state == machine.BACKOFF:
            if self._is_superseded():
                self.journal.go(machine.FINISH, "the next start was called off by a new want", killed=(), next_start_at=None)
            elif time.monotonic() >= self.record.next_start_clock or self.record.boot_id != procfs.boot_id():
                self._start(str(self.record.version))
        if self.record.state in (machine.EXITED, machine.FAILED):
            self._idle()

    def _tend(self) -> None:
        ended = cause_from_json(self.record.ended)
        if self._is_superseded():
            self._begin_stop("leaving" if self.seen.leaving else "want")
        elif ended is not None:
            self._leader_ended(ended)
        elif self.record.state == machine.RUNNING and self._has_proved():
            if is_proving(self.want, self.record):
                step = {"name": "ready", "seconds": round(time.monotonic() - self.record.started_clock, 4)}
                self.journal.note(outcome=replace(outcome_of(self.record, ready=True), steps=(*self.record.steps, step)))
                self._proved()
            self.journal.event("ready")
            self.journal.go(machine.PROVED, "running")
        elif self.record.state == machine.RUNNING and self._is_late(self._on_trial()):
            self._begin_stop("unready")

    def _proved(self) -> None:
        """A hook: the launch of this generation has just succeeded."""

    def _is_superseded(self) -> bool:
        return self.seen.leaving or (is_superseded(self.want, self.record) and not self._is_preparing())

    def _leader_ended(self, cause: ExitCause) -> None:
        """The first process is gone, the tree is not: a daemon on purpose (exit 0), or what a crash left behind."""
        members = self._tree().members()
        if cause != Exited(0):
            self.journal.event("leftovers", pids=[member.pid for member in members], exit_cause=cause_to_json(cause))
            self._begin_stop("crash")
        elif members:
            explanation = f"running: the first process exited with code 0 and left {len(members)} at work"
            first = members[0]
            self.journal.publish(pid=first.pid, start_time=first.start_time, ended=None, explanation=explanation)

    def _idle(self) -> None:
        """No run: start the wanted one, or settle and leave."""
        want = self.want
        if self.seen.leaving or want is None:
            self.errands.cancel()
            self._be_done()
        elif want.generation == self.record.generation and self.record.settled:
            self._be_done()
        elif not want.up:
            killed = self.errands.cancel()
            if killed or self.sockets.keep_only(None):
                self.journal.publish(killed=killed or self.record.killed)  # once they are gone, a turn comes here again
            else:
                pids = [entry["pid"] for entry in self.record.killed]
                self.journal.announce("killed", version=self.record.version, killed=pids)
                self.journal.go(machine.FINISH, "down, as wanted", generation=want.generation, settled=True)
                self._be_done()
        elif not self._is_preparing():
            self._start_or_make_way(version_to_run(want, self.record))

    def _start_or_make_way(self, version: str) -> None:
        """Start that release, once the resident holds no address that it may want to bind itself."""
        if self.sockets.keep_only(self._read_release(version)):
            self.journal.publish(explanation="about to start")
        else:
            self._start(version)

    def _be_done(self) -> None:
        if self.sockets.keep_only(None):
            self.journal.publish()
        self._remove_group()
        self.done = True
