"""One turn of a shim: what was seen, what is on record and what is wanted go in; the next step is taken.

A turn remembers nothing between two calls. It reads the record and the want, learns what ended, takes the
one step that leads from what is to what is wanted, and publishes the record.
"""

from __future__ import annotations

import os
import time
from typing import Optional

from agent.host import cgroups, clock, files, procfs
from agent.model import (
    ExitCause,
    Exited,
    FailedToStart,
    LogPolicy,
    Release,
    RestartPolicy,
    StopPolicy,
    UnknownExit,
    cause_from_json,
    cause_to_json,
    signal_number,
)  # fmt: skip
from agent.shim import ladder, machine
from agent.shim.capture import open_writer
from agent.shim.child import end_of_adopted, take_over
from agent.shim.environment import environment, marker
from agent.shim.journal import Journal
from agent.shim.record import Record, Want, read_want
from agent.shim.resident import Answer, Seen
from agent.shim.tree import Spawned, Tree, cause_of, spawn
from agent.shim.verdict import is_proving, is_superseded, outcome_of, verdict, version_to_run
from agent.store.layout import ProjectLayout

#: Without a readiness of its own, a run is ready once it has been alive for this long.
READY_SECONDS = 1.0
#: How often a turn looks for itself at what nobody tells it.
_LOOK_SECONDS = 0.05
_LOOK_SELDOM_SECONDS = 5.0


class Turn:
    """One turn of a project's shim."""

    def __init__(self, layout: ProjectLayout, seen: Seen) -> None:
        self.layout = layout
        self.seen = seen
        self.journal = Journal(layout)
        self.release: Optional[Release] = None
        self.want: Optional[Want] = None
        self.done = False

    @property
    def record(self) -> Record:
        """The latest record."""
        return self.journal.record

    def take(self) -> Answer:
        """Look, step, publish."""
        self.release = self._read_release(self.record.version)
        if self.seen.arriving:
            self._arrive()
            resident = self.seen.resident
            # before the want is read: whoever writes one from now on can poke us
            self.journal.publish(shim={"pid": resident, "start_time": procfs.start_time(resident) or 0})
        if self.seen.lost_bytes:
            self.journal.event("gap", lost_bytes=self.seen.lost_bytes, reason="the disk refused the log")
        self.want = read_want(self.layout)
        self._look()
        self._step()
        policy = self.release.logs if self.release is not None else LogPolicy()
        watch = self.record.pid if self.record.adopted and self.record.ended is None else None
        return Answer(self.done, self._due(), watch or 0, policy.segment_bytes, policy.segments)

    def _arrive(self) -> None:
        take_over(self.journal)

    def _due(self) -> float:
        """By when (monotonic clock) the next turn has to be taken even if nothing happens; 0 for never."""
        record, now = self.record, time.monotonic()
        due = []
        if record.state == machine.RUNNING:
            due.append(record.started_clock + READY_SECONDS)
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
        for pid, status in self.seen.ended:
            last = cause_of(status)
            if pid == self.record.pid:
                ended = ended or last
        if self.record.pid is None:
            return
        if ended is None and self.record.adopted:
            ended = end_of_adopted(self.journal, self.layout, self.seen.pidfd)
        elif ended is None and self.seen.childless:
            ended = last or UnknownExit("its parent did not tell")
        if ended is None:
            return
        if self._is_empty():
            self._over(ended)
        elif self.record.ended is None:
            self.journal.publish(ended=cause_to_json(ended))

    def _is_empty(self) -> bool:
        """ECHILD is the kernel's word that nothing is left; where children hang elsewhere, a search is."""
        return self.seen.childless and not (self.record.adopted and self._tree().members())

    def _step(self) -> None:
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
                self.journal.note(outcome=outcome_of(self.record, ready=True))
                self._proved()
            self.journal.event("ready")
            self.journal.go(machine.PROVED, "running")

    def _proved(self) -> None:
        """A hook: the launch of this generation has just succeeded."""

    def _has_proved(self) -> bool:
        return time.monotonic() - self.record.started_clock >= READY_SECONDS

    def _is_superseded(self) -> bool:
        return self.seen.leaving or is_superseded(self.want, self.record)

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
            self.done = True
        elif want.generation == self.record.generation and self.record.settled:
            self.done = True
        elif not want.up:
            self.journal.go(machine.FINISH, "down, as wanted", generation=want.generation, settled=True)
            self.done = True
        else:
            self._start(version_to_run(want, self.record))

    # ------------------------------------------------------------------ a run's start

    def _start(self, version: str) -> None:
        assert self.want is not None
        again = self.record.state == machine.BACKOFF
        self.journal.note(
            generation=self.want.generation, version=version, settled=False, run=self.record.run + 1, pid=None, start_time=None,
            adopted=False, killed=(), survivors=(), next_start_at=None, boot_id=procfs.boot_id(), started_at=clock.timestamp(),
            restarts=self.record.restarts + 1 if again else 0, failures=self.record.failures if again else 0, ended=None,
            gone_clock=None, stop=None, cgroup=None, started_clock=time.monotonic(), explanation="starting",
            state=machine.next_state(self.record.state, machine.START), since=clock.timestamp(),
        )  # fmt: skip
        segment, offset = self.seen.position
        self.journal.event("start", version=version, segment=segment, offset=offset)
        failure = self._spawn(version)
        if failure is not None:
            self._over(failure)
        else:
            self.journal.go(machine.EXECUTED, "running; not yet ready")

    def _spawn(self, version: str) -> Optional[FailedToStart]:
        """Fork, record, execute; or why that can't be."""
        self.release = self._read_release(version)
        if self.release is None:
            return FailedToStart(f"release {version} is not in the store")
        for directory in (self.layout.data, self.layout.secrets):
            files.make_directory(directory)
        try:
            spawned = self._fork(self.release)
        except OSError as error:
            return FailedToStart(f"fork: {error.strerror}")
        self.journal.publish(pid=spawned.pid, start_time=spawned.start_time)
        failure = spawned.release()
        if failure is not None:
            os.waitpid(spawned.pid, 0)
        else:
            self._join_group(spawned.pid)
        return failure

    def _join_group(self, pid: int) -> None:
        # stores on one host must not share groups: the inode number of the project's directory tells them apart
        cgroup = cgroups.create(f"{os.stat(self.layout.root).st_ino:x}-{self.layout.project}")
        if cgroup is not None and cgroups.enter(cgroup, pid):
            self.journal.note(cgroup=cgroup)

    def _fork(self, release: Release) -> Spawned:
        output = open_writer(self.seen.reader)
        try:
            directory = self.layout.release(release.version)
            return spawn(release.command, directory, environment(release, self.layout), output, {})
        finally:
            os.close(output)

    def _read_release(self, version: Optional[str]) -> Optional[Release]:
        document = files.read_json(self.layout.release_json(version)) if version else None
        return Release.from_json(document) if document is not None else None

    # ------------------------------------------------------------------ a run's end

    def _begin_stop(self, reason: str) -> None:
        policy = self.release.stop if self.release else StopPolicy()
        grace = policy.grace_seconds
        if self.want is not None and not self.want.up and self.want.grace_seconds is not None:
            grace = self.want.grace_seconds
        stop = ladder.begin(self._tree(), reason, signal_number(policy.signal), grace, time.monotonic())
        self.journal.event("stop", reason=reason, signal=policy.signal, grace_seconds=grace)
        self.journal.go(machine.STOP, f"stopping: {policy.signal} sent, SIGKILL follows after {grace:g} s", stop=stop)

    def _pursue_stop(self) -> None:
        assert self.record.stop is not None
        stop, survivors = ladder.pursue(self._tree(), self.record.stop, time.monotonic())
        if survivors and not self.record.survivors:
            self.journal.note(explanation="stopping: SIGKILL was sent and has not ended every process")
        if stop != self.record.stop or tuple(survivors) != self.record.survivors:
            self.journal.publish(stop=stop, survivors=tuple(survivors))

    def _over(self, cause: ExitCause) -> None:
        """The tree is empty: put the end on record, then decide what follows."""
        ran, stop = time.monotonic() - self.record.started_clock, self.record.stop
        killed = stop.killed if stop is not None else ()
        by_itself = stop is None or stop.reason == "crash"
        self.journal.remember_end(cause, ran, by_itself, killed)
        if self.record.cgroup is not None:
            cgroups.remove(self.record.cgroup)
        self.journal.note(
            pid=None,
            start_time=None,
            adopted=False,
            cgroup=None,
            killed=killed,
            survivors=(),
            stop=None,
            ended=None,
            gone_clock=None,
        )
        if by_itself:
            self._ended_by_itself(cause, ran)
        else:
            leaving = stop is not None and stop.reason == "leaving"
            self.journal.go(machine.FINISH, "stopped, since its shim was told to end" if leaving else "stopped as asked")

    def _ended_by_itself(self, cause: ExitCause, ran: float) -> None:
        policy = self.release.restart if self.release else RestartPolicy()
        found = verdict(None if self.seen.leaving else self.want, self.record, policy, cause, ran)
        if found.outcome is not None:
            self.journal.note(outcome=found.outcome)
        if found.event == machine.RETRY:
            at = clock.timestamp(time.time() + found.delay_seconds)
            self.journal.go(
                found.event, f"backing off: {found.reason}; next start at {at}", failures=found.failures, next_start_at=at,
                next_start_clock=time.monotonic() + found.delay_seconds,
            )  # fmt: skip
        else:
            self.journal.go(found.event, found.reason, settled=found.settled)

    def _tree(self) -> Tree:
        resident = self.seen.resident
        return Tree(resident, resident, marker(self.layout), self.record.cgroup, self.record.adopted)
