"""The supervisor of one project: what is, what is wanted, and the one step that leads from here to there.

One poll loop over signals, output, the child and one deadline. Signal handlers only note; the
loop acts: it reads the want if somebody poked, looks at what ended, steps, and publishes the record.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import Dict, Optional

from agent.host import cgroups, clock, files, procfs, signals, sockets
from agent.model import (
    ExitCause, Exited, FailedToStart, LogPolicy, Release, RestartPolicy, StopPolicy, UnknownExit, cause_to_json, signal_number,
)  # fmt: skip
from agent.shim import machine, tree
from agent.shim.capture import Capture
from agent.shim.child import Child, take_over
from agent.shim.environment import environment, marker
from agent.shim.journal import Journal
from agent.shim.nursery import Nursery
from agent.shim.record import POKE, Record, Want, read_want
from agent.shim.verdict import is_proving, is_superseded, outcome_of, verdict, version_to_run
from agent.store.layout import ProjectLayout

#: Without a readiness of its own, a run is ready once it has been alive for this long.
READY_SECONDS = 1.0


class Shim:
    """One project's supervisor. `passed` are listening sockets by name; the agent's own shim has a nursery."""

    def __init__(self, layout: ProjectLayout, passed: Dict[str, int], nursery: Optional[Nursery] = None) -> None:
        self.layout = layout
        self.nursery = nursery
        self.sockets = passed
        self.journal = Journal(layout)
        self.capture = Capture(layout, LogPolicy())
        self.want: Optional[Want] = None
        self.release: Optional[Release] = None
        self.child: Optional[Child] = None
        self.stop: Optional[tree.Stop] = None
        self.stop_reason = ""
        self.next_start = 0.0
        self.leaving = self.done = False
        self.poked = True
        self.wake = signals.listen((signal.SIGCHLD, POKE, signal.SIGTERM, signal.SIGINT), self._note)

    @property
    def record(self) -> Record:
        """The latest record."""
        return self.journal.record

    # ------------------------------------------------------------------ the loop

    def run(self) -> None:
        """Until nothing is left to do for the latest want."""
        self._take_over()
        self.journal.publish()  # before the want is read: whoever writes one from now on can poke us
        while not self.done:
            self._act()
            if not self.done:
                self._wait()

    def _note(self, number: int, _frame: object) -> None:
        if number == POKE:
            self.poked = True
        elif number != signal.SIGCHLD:
            self.leaving = True

    def _wait(self) -> None:
        poll = select.poll()
        pidfd = self.child.pidfd if self.child is not None and not self.child.awaits_status else None
        for fd in (self.capture.reader, self.wake, pidfd, self.nursery.fd if self.nursery else None):
            if fd is not None:
                poll.register(fd, select.POLLIN)
        seconds = self._due_seconds()
        for fd, _ in poll.poll(None if seconds is None else max(0, int(seconds * 1000) + 1)):
            if fd == self.capture.reader:
                self._capture()
            elif fd == self.wake:
                os.read(self.wake, 4096)
            elif self.nursery is not None and fd == self.nursery.fd:
                self.nursery.serve()

    def _due_seconds(self) -> Optional[float]:
        """After how long there is something to do even if nothing happens; None for never."""
        now = time.monotonic()
        due = []
        if self.child is not None:
            if self.record.adopted and (self.child.pidfd is None or self.child.awaits_status):
                due.append(0.05)  # nothing tells us of this end: we have to look
            if self.record.state == machine.RUNNING and self.nursery is None:
                due.append(self.child.started + READY_SECONDS - now)
        if self.record.state == machine.BACKOFF:
            due.append(self.next_start - now)
        if self.stop is not None:
            due.append(min(self.stop.due(now), 0.1) if self.record.adopted else self.stop.due(now))
        return min(due) if due else None

    def _capture(self) -> None:
        lost = self.capture.lost_bytes
        self.capture.pump()
        if lost and self.capture.lost_bytes == lost:  # the disk takes bytes again
            self.capture.lost_bytes = 0
            self.journal.event("gap", lost_bytes=lost, reason="the disk refused the log")

    # ------------------------------------------------------------------ one turn

    def _act(self) -> None:
        if self.poked:
            self.poked = False
            self.want = read_want(self.layout)
        self._look()
        if self.record.state == machine.STOPPING:
            self._pursue_stop()
        elif self.record.state in machine.ALIVE:
            self._tend()
        elif self.record.state == machine.BACKOFF:
            if self._is_superseded():
                self.journal.go(machine.FINISH, "the wait for the next start was ended by a new want", killed=())
            elif time.monotonic() >= self.next_start:
                self._start(str(self.record.version))
        if self.record.state in (machine.EXITED, machine.FAILED):
            self._idle()

    def _look(self) -> None:
        """Learn what ended; if that was the last of the tree, the run is over."""
        ended, childless = tree.reap()
        last: Optional[ExitCause] = None
        for pid, status in ended:
            last = tree.cause_of(status)
            if self.child is not None and pid == self.child.pid:
                self.child.ended = last
            elif self.nursery is not None:
                self.nursery.reaped(pid, status)
        if self.child is None:
            return
        self.child.watch(self.layout)
        if self.child.ended is None and childless and not self.child.adopted:
            self.child.ended = last or UnknownExit("its parent did not tell")
        if self.child.ended is not None and self._is_empty(childless):
            self._over(self.child.ended)

    def _is_empty(self, childless: bool) -> bool:
        """ECHILD is the kernel's word that nothing is left; where children hang elsewhere, a search is."""
        if self.nursery is not None:
            return True  # the agent is one process; this shim's other children are the projects' shims
        return childless and not (self.record.adopted and self._tree().members())

    def _tend(self) -> None:
        assert self.child is not None
        if self._is_superseded():
            self._begin_stop("leaving" if self.leaving else "want")
        elif self.child.ended is not None:
            self._leader_ended(self.child.ended)
        elif self.record.state == machine.RUNNING and self._has_proved():
            if is_proving(self.want, self.record):
                self.journal.note(outcome=outcome_of(self.record, ready=True))
            self.journal.event("ready")
            self.journal.go(machine.PROVED, "running")

    def _leader_ended(self, cause: ExitCause) -> None:
        """The first process is gone, the tree is not: a daemon on purpose (exit 0), or what a crash left behind."""
        members = self._tree().members()
        if cause != Exited(0):
            self.journal.event("leftovers", pids=[member.pid for member in members], exit_cause=cause_to_json(cause))
            self._begin_stop("crash")
        elif members and self.child is not None:
            first = members[0]
            self.child = Child(first.pid, first.start_time, self.child.started, adopted=self.record.adopted)
            self.journal.publish(
                pid=first.pid, start_time=first.start_time,
                explanation=f"running: the first process exited with code 0 and left {len(members)} at work",
            )  # fmt: skip

    def _has_proved(self) -> bool:
        if self.nursery is not None:
            return self.nursery.agent_is_ready
        return self.child is not None and time.monotonic() - self.child.started >= READY_SECONDS

    def _is_superseded(self) -> bool:
        return self.leaving or is_superseded(self.want, self.record)

    def _idle(self) -> None:
        """No run: start the wanted one, or settle and leave."""
        want = self.want
        if self.leaving or want is None:
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
        self.capture.drain()
        again = self.record.state == machine.BACKOFF
        self.journal.note(
            generation=self.want.generation, version=version, settled=False, run=self.record.run + 1, pid=None, start_time=None,
            adopted=False, killed=(), survivors=(), next_start_at=None, boot_id=procfs.boot_id(), started_at=clock.timestamp(),
            restarts=self.record.restarts + 1 if again else 0, failures=self.record.failures if again else 0,
            state=machine.next_state(self.record.state, machine.START), since=clock.timestamp(), explanation="starting",
        )  # fmt: skip
        segment, offset = self.capture.position
        self.journal.event("start", version=version, segment=segment, offset=offset)
        failure = self._spawn(version)
        if failure is not None:
            self._over(failure)
        else:
            self.journal.go(machine.EXECUTED, "running; not yet ready")

    def _spawn(self, version: str) -> Optional[FailedToStart]:
        """Fork, record, execute; or why that can't be."""
        release = self._load_release(version)
        if release is None:
            return FailedToStart(f"release {version} is not in the store")
        for directory in (self.layout.data, self.layout.secrets):
            files.make_directory(directory)
        for name, address in release.sockets.items():
            if name not in self.sockets:
                self.sockets[name] = sockets.bind(name, address)
        passed = {name: self.sockets[name] for name in release.sockets}
        if self.nursery is not None:
            passed["control"] = self.nursery.open_control()
        cgroup = None if self.nursery else cgroups.create(_group_name(self.layout))
        output = self.capture.open_writer()
        try:
            directory = self.layout.release(version)
            spawned = tree.spawn(release.command, directory, environment(release, self.layout), output, passed, cgroup)
        except OSError as error:
            return FailedToStart(f"fork: {error.strerror}")
        finally:
            os.close(output)
            if self.nursery is not None:
                os.close(passed["control"])
        self.child = Child(spawned.pid, spawned.start_time, time.monotonic())
        self.journal.publish(pid=spawned.pid, start_time=spawned.start_time, cgroup=cgroup)
        failure = spawned.release()
        if failure is not None:
            os.waitpid(spawned.pid, 0)
        return failure

    def _load_release(self, version: Optional[str]) -> Optional[Release]:
        document = files.read_json(self.layout.release_json(version)) if version else None
        if document is None:
            return None
        self.release = Release.from_json(document)
        self.capture.policy = self.release.logs
        return self.release

    # ------------------------------------------------------------------ a run's end

    def _begin_stop(self, reason: str) -> None:
        policy = self.release.stop if self.release else StopPolicy()
        grace = policy.grace_seconds
        if self.want is not None and not self.want.up and self.want.grace_seconds is not None:
            grace = self.want.grace_seconds
        self.stop_reason = reason
        self.stop = tree.Stop(self._tree(), signal_number(policy.signal), grace, time.monotonic())
        self.journal.event("stop", reason=reason, signal=policy.signal, grace_seconds=grace)
        self.journal.go(machine.STOP, f"stopping: {policy.signal} sent, SIGKILL follows after {grace:g} s")

    def _pursue_stop(self) -> None:
        assert self.stop is not None
        now = time.monotonic()
        self.stop.pursue(now)
        survivors = tuple(self.stop.survivors(now))
        if survivors != self.record.survivors:
            explanation = "stopping: SIGKILL was sent and has not ended every process"
            self.journal.publish(survivors=survivors, explanation=explanation)

    def _over(self, cause: ExitCause) -> None:
        """The tree is empty: keep the last output, then decide what follows."""
        self.capture.drain()
        ran = time.monotonic() - self.child.started if self.child is not None else 0.0
        killed = tuple(self.stop.killed) if self.stop else ()
        by_itself = self.stop is None or self.stop_reason == "crash"
        self.journal.remember_end(cause, ran, by_itself, killed)
        if self.record.cgroup is not None:
            cgroups.remove(self.record.cgroup)
        self.journal.note(pid=None, start_time=None, adopted=False, cgroup=None, killed=killed, survivors=())
        self.child, self.stop = None, None
        if by_itself:
            self._ended_by_itself(cause, ran)
        else:
            self.journal.go(machine.FINISH, "stopped, since its shim was told to end" if self.leaving else "stopped as asked")

    def _ended_by_itself(self, cause: ExitCause, ran: float) -> None:
        policy = self.release.restart if self.release else RestartPolicy()
        want = None if self.leaving else self.want
        found = verdict(want, self.record, policy, cause, ran)
        if found.outcome is not None:
            self.journal.note(outcome=found.outcome)
        if found.event == machine.RETRY:
            self.next_start = time.monotonic() + found.delay_seconds
            at = clock.timestamp(time.time() + found.delay_seconds)
            explanation = f"backing off: {found.reason}; next start at {at}"
            self.journal.go(found.event, explanation, failures=found.failures, next_start_at=at)
        else:
            self.journal.go(found.event, found.reason, settled=found.settled)

    # ------------------------------------------------------------------ what there is

    def _take_over(self) -> None:
        """Go on where the last shim stopped."""
        record = self.record
        self._load_release(record.version)
        if record.state == machine.BACKOFF:
            remaining = clock.from_timestamp(record.next_start_at) - time.time() if record.next_start_at else 0.0
            self.next_start = time.monotonic() + max(0.0, min(remaining, 3600.0))
        elif record.state in machine.ALIVE:
            self.child = take_over(self.journal)

    def _tree(self) -> tree.Tree:
        if self.nursery is not None:
            roots = (self.child.pid,) if self.child is not None else ()
            return tree.Tree(roots, marker(self.layout), None, scattered=False)
        return tree.Tree((os.getpid(),), marker(self.layout), self.record.cgroup, self.record.adopted)


def _group_name(layout: ProjectLayout) -> str:
    """Stores on one host must not share groups; the inode number of the project's directory tells them apart."""
    return f"{os.stat(layout.root).st_ino:x}-{layout.project}"
