"""One run of a project: how it is started, stopped, and what its end means.

A run is on record before its program is executed, and over when the last process of its tree is gone.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from dataclasses import replace
from typing import Dict, List, Optional, Tuple, Union

from agent.errors import AgentError
from agent.host import cgroups, clock, drafts, files, procfs, users
from agent.model import (
    SEPARATE,
    ExitCause,
    Exited,
    FailedToStart,
    NotReady,
    Release,
    RestartPolicy,
    Signaled,
    StopPolicy,
    signal_number,
)
from agent.shim import ladder, machine
from agent.shim.capsule import origin_of, write_capsule
from agent.shim.capture import open_writer
from agent.shim.child import is_alive
from agent.shim.environment import environment, marker
from agent.shim.errand import PROBE, Errands
from agent.shim.journal import Journal
from agent.shim.readiness import Stamp, file_stamp, notify_name, open_notify, sentence
from agent.shim.record import Record, Want
from agent.shim.resident import Seen
from agent.shim.rights import claim
from agent.shim.sockets import Sockets
from agent.shim.tree import Spawned, Tree, spawn
from agent.shim.verdict import must_prepare, verdict
from agent.store.layout import ProjectLayout
from agent.store.segments import make_fifo


class Run:
    """The run on record, as one turn of its shim sees it."""

    def __init__(self, layout: ProjectLayout, seen: Seen) -> None:
        self.layout = layout
        self.seen = seen
        self.journal = Journal(layout)
        self.errands = Errands(layout, self.journal, seen.resident)
        self.sockets = Sockets(layout, self.journal, seen.held)
        #: Of a run that this very turn starts: where it says that it is ready, or what was there of the file that it is to write.
        self.notify: Optional[socket.socket] = None
        self.before: Tuple[Stamp, ...] = ()
        self.release: Optional[Release] = None
        self._releases: Dict[Optional[str], Optional[Release]] = {}
        self.want: Optional[Want] = None
        self.done = False

    @property
    def record(self) -> Record:
        """The latest record."""
        return self.journal.record

    # ------------------------------------------------------------------ a run's start

    def _get_ready(self) -> None:
        """Do what a start has to do whatever is wanted."""
        users.own()
        cgroups.create(self._group_name())
        with contextlib.suppress(OSError):  # the start will tell
            self._make_directories()

    def _make_directories(self) -> None:
        for directory in (self.layout.data, self.layout.secrets):
            files.make_directory(directory)

    def _start(self, version: str) -> None:
        assert self.want is not None
        again, run = self.record.state == machine.BACKOFF, self._next_run()
        # what is started again, while another release is prepared or proves itself beside it, is no launch of that one
        generation = self.record.generation if again else self.want.generation
        self.journal.note(
            generation=generation, version=version, settled=False, run=run, last_run=run, pid=None, start_time=None,
            adopted=False, killed=(), survivors=(), next_start_at=None, boot_id=procfs.boot_id(), started_at=clock.timestamp(),
            restarts=self.record.restarts + 1 if again else 0, failures=self.record.failures if again else 0, ended=None,
            gone_clock=None, stop=None, cgroup=None, started_clock=time.monotonic(),
            steps=self.record.steps if self.record.prepared == self.want.generation else (), explanation="starting",
            state=machine.next_state(self.record.state, machine.START), since=clock.timestamp(), began=self.seen.position,
            peak_bytes=0, cpu_seconds=0.0,
        )  # fmt: skip
        segment, offset = self.seen.position
        self.journal.event("start", version=version, segment=segment, offset=offset)
        failure = self._spawn(version)
        self.journal.note(oom_kills=procfs.oom_kills())  # not before: the kernel takes half a millisecond to add them up
        if failure is not None:
            self._over(failure)
        else:
            self.journal.go(machine.EXECUTED, "running; not yet ready")

    def _next_run(self) -> int:
        return max(self.record.run, self.record.last_run) + 1

    def _spawn(self, version: str) -> Optional[FailedToStart]:
        """Fork, record, execute; or why that can't be."""
        self.release = self._read_release(version)
        if self.release is None:
            return FailedToStart(f"release {version} is not in the store")
        spawned = self._forked(self.release, self.record.run)
        if isinstance(spawned, FailedToStart):
            return spawned
        self.journal.publish(pid=spawned.pid, start_time=spawned.start_time, cgroup=spawned.group)
        failure = spawned.release()
        if failure is not None:
            os.waitpid(spawned.pid, 0)
        elif self.record.cgroup is None:
            self._join_group(spawned.pid)
        return failure

    def _forked(self, release: Release, run: int, beside: bool = False) -> Union[Spawned, FailedToStart]:
        """A child behind its gate, or why there is none."""
        self._make_directories()
        try:
            return self._fork(release, run, beside)
        except AgentError as error:
            return FailedToStart(error.detail)
        except OSError as error:
            return FailedToStart(f"fork: {error.strerror}")

    def _join_group(self, pid: int) -> None:
        cgroup = cgroups.create(self._group_name())
        if cgroup is not None and cgroups.enter(cgroup, pid):
            self.journal.note(cgroup=cgroup)

    def _remove_group(self) -> None:
        """Of a start that did not come, or of a shim that was killed before it could."""
        with contextlib.suppress(FileNotFoundError):  # the project was purged, or never came to be
            path = cgroups.path_of(self._group_name())
            if path is not None:
                cgroups.remove(path)

    def _group_name(self, run: Optional[int] = None) -> str:
        """Stores on one host must not share groups: device and inode number of the project's directory tell them apart.

        A run that starts beside another has a group of its own.
        """
        found = os.stat(self.layout.root)
        name = f"{found.st_dev:x}.{found.st_ino:x}-{self.layout.project}"
        return name if run is None else f"{name}.{run}"

    def _fork(self, release: Release, run: int, beside: bool) -> Spawned:
        sockets = self.sockets.bound(release)
        output = open_writer(self.seen.reader)
        environ = environment(release, self.layout)
        if release.readiness is not None and release.readiness.kind == "notify":
            name = notify_name(self.layout, run)
            self.notify = open_notify(name)
            environ["NOTIFY_SOCKET"] = "@" + name
        elif release.readiness is not None and release.readiness.kind == "file":
            with contextlib.suppress(OSError):  # the check will tell
                self.before = (file_stamp(release, self.layout),)
        try:
            rights = claim(release, self.layout, output, self._group_name(run if beside else None))
            errors = self._open_errors(release, output)
            try:
                return spawn(release.command, self.layout.release(release.version), environ, output, sockets, rights, errors)
            finally:
                os.close(errors)
        finally:
            os.close(output)

    def _open_errors(self, release: Release, output: int) -> int:
        """Where its errors go: with its output, or through a FIFO of their own, which the resident opens after this turn."""
        if release.logs.streams != SEPARATE:
            return os.dup(output)
        make_fifo(self.layout.error_fifo)
        errors = os.open(self.layout.error_fifo, os.O_RDWR | os.O_NOFOLLOW)
        owner = os.fstat(output)
        os.fchown(errors, owner.st_uid, owner.st_gid)
        return errors

    def _is_preparing(self) -> bool:
        """Whether the wanted release has yet to be prepared, and the old one runs on meanwhile."""
        if not must_prepare(self.want, self.record) or self.want is None:
            return False
        release = self._read_release(self.want.version)
        return release is not None and (bool(release.before_launch) or release.migrations is not None)

    def _read_release(self, version: Optional[str]) -> Optional[Release]:
        found = self._releases.get(version)
        if found is None and version:
            document = drafts.read(self.layout.release_json(version))
            found = self._releases[version] = Release.from_json(document) if document is not None else None
        return found

    # ------------------------------------------------------------------ a run's end

    def _begin_stop(self, reason: str) -> None:
        policy = self.release.stop if self.release else StopPolicy()
        grace = policy.grace_seconds
        if self.want is not None and not self.want.up and self.want.grace_seconds is not None:
            grace = self.want.grace_seconds
        cancelled = () if self._is_preparing() else self.errands.cancel()
        stop = ladder.begin(self._tree(), reason, signal_number(policy.signal), grace, time.monotonic())
        stop = replace(stop, killed=(*cancelled, *stop.killed))
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
        if isinstance(cause, Signaled) and self.record.cgroup is not None and cgroups.oom_kills(self.record.cgroup):
            cause = replace(cause, oom=True)
        killed = stop.killed if stop is not None else ()
        by_itself = stop is None or stop.reason in ("crash", "unready")
        if stop is not None and stop.reason == "unready":
            cause = self._not_ready(self.record.run, self.release)
        self.journal.remember_end(cause, ran, by_itself, killed)
        if by_itself and cause != Exited(0):
            origin = origin_of(self.release, self.layout)
            write_capsule(self.layout, self.record, origin, cause, self.seen.position)
        if not self._is_preparing():
            self.errands.cancel()
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
        found = verdict(None if self.seen.leaving else self.want, self.record, self._restart_policy(cause, ran), cause, ran)
        self.journal.event("decision", decision=found.event, reason=found.reason, delay_seconds=found.delay_seconds)
        if found.outcome is not None:
            failure = self.errands.result(PROBE, self.record.run).get("failure")
            self.journal.note(outcome=replace(found.outcome, readiness=failure))
        if found.event == machine.RETRY:
            at = clock.timestamp(time.time() + found.delay_seconds)
            self.journal.go(
                found.event, f"backing off: {found.reason}; next start at {at}", failures=found.failures, next_start_at=at,
                next_start_clock=time.monotonic() + found.delay_seconds,
            )  # fmt: skip
        else:
            self.journal.go(found.event, found.reason, settled=found.settled)

    def _restart_policy(self, cause: ExitCause, ran: float) -> RestartPolicy:
        """What is to follow a run that ended by itself with this cause after so many seconds."""
        return self.release.restart if self.release else RestartPolicy()

    def _not_ready(self, run: int, release: Optional[Release]) -> NotReady:
        readiness = release.readiness if release else None
        seconds = readiness.timeout_seconds if readiness else 0.0
        failure = self.errands.result(PROBE, run).get("failure", {})
        return NotReady(f"{sentence(failure)} (for {seconds:g} s)")

    def _tree(self) -> Tree:
        resident = self.seen.resident
        found = (marker(self.layout), self.record.cgroup, self.record.adopted, [self.errands.pid])
        return Tree(resident, resident, *found, known=self._known())

    def _known(self) -> List[int]:
        """The child on record, which after an adoption does not hang below this shim."""
        record = self.record
        return [record.pid] if record.adopted and record.pid is not None and is_alive(record) else []
