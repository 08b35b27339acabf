"""Replacement of a project without a gap: with `sockets` in both releases, the new run starts beside the old one.

The two are told apart by who descends from whom, by when they started, and by the environment.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import List, Optional

from agent.host import cgroups, clock, procfs, signals
from agent.host.procfs import Process
from agent.model import ExitCause, Exited, Signaled, StopPolicy, UnknownExit, cause_from_json, cause_to_json, signal_number
from agent.shim import machine
from agent.shim.capsule import origin_of, write_capsule
from agent.shim.environment import marker
from agent.shim.errand import PROBE
from agent.shim.launching import Trial
from agent.shim.record import Outcome, Successor
from agent.shim.succession import Succession
from agent.shim.tree import Tree, cause_of

#: How often a turn looks whether a second run has proved itself, or is gone; most ends are told.
_LOOK_SECONDS = 0.2


class Branch(Tree):
    """The processes of one of two runs that share a project.

    Older is what started before the newer run did, is below the older one's first process, or has its mark in the environment;
    newer is the rest. A control group is not asked: what was forked before the group was entered is not in it.
    """

    def __init__(self, whole: Tree, successor: Successor, older_pid: int) -> None:
        super().__init__(None, 0, b"", None, scattered=False)
        self._whole = whole
        self._successor = successor
        self._older_pid = older_pid

    def members(self) -> List[Process]:
        """The live processes of this run."""
        everything, mark = self._whole.members(), self._successor.older_mark.encode()
        below = {self._older_pid, *(process.pid for process in procfs.descendants([self._older_pid], everything))}
        newer_start = self._successor.newer_start
        older = {
            process.pid
            for process in everything
            if process.pid in below or process.start_time < newer_start or procfs.has_environment(process.pid, mark)
        }
        return [process for process in everything if (process.pid not in older) == self._successor.is_newer]


class ProjectTurn(Succession):
    """A turn of a project's shim: with `sockets` in both releases, new and old overlap."""

    def _arrive(self) -> None:
        super()._arrive()
        record = self.record
        if record.successor is not None:
            is_of_this_boot = record.boot_id == procfs.boot_id()
            self.journal.note(successor=replace(record.successor, adopted=True) if is_of_this_boot else None)
        if record.sockets and self.record.pid is not None:
            self.sockets.recover(process.pid for process in self._whole_tree().members())

    def _due(self) -> float:
        due, successor = super()._due(), self.record.successor
        if successor is None:
            return due
        look = time.monotonic() + _LOOK_SECONDS
        if not successor.is_retiring:
            look = min(look, max(self._proof_ends(self._trial_of(successor)), time.monotonic()))
        return min(due, look) if due > 0.0 else look

    # ------------------------------------------------------------------ whose is a process?

    @property
    def _ends_all(self) -> bool:
        """Whether everything has to end, whichever run it belongs to."""
        return self.seen.leaving or self.want is None or not self.want.up

    def _whole_tree(self) -> Tree:
        record, resident = self.record, self.seen.resident
        scattered = record.adopted or (record.successor is not None and record.successor.adopted)
        return Tree(resident, resident, marker(self.layout), record.cgroup, scattered, [self.errands.pid], self._known())

    def _branch(self, successor: Successor) -> Branch:
        return Branch(self._whole_tree(), successor, (self.record.pid or 0) if successor.is_newer else successor.pid)

    def _tree(self) -> Tree:
        successor = self.record.successor
        if successor is None or self._ends_all:
            return super()._tree()
        record, resident = self.record, self.seen.resident
        beside = [process.pid for process in self._branch(successor).members()]
        scattered = record.adopted or successor.adopted
        spared = [self.errands.pid, *beside]
        return Tree(resident, resident, marker(self.layout), record.cgroup, scattered, spared, super()._known())

    def _known(self) -> List[int]:
        successor = self.record.successor
        is_adopted = successor is not None and successor.adopted and procfs.is_alive(successor.pid, successor.start_time)
        return [*super()._known(), *([successor.pid] if successor is not None and is_adopted else [])]

    def _is_empty(self) -> bool:
        if self.record.successor is None or self._ends_all:
            return super()._is_empty()
        return not self._tree().members()

    # ------------------------------------------------------------------ steps

    def _look(self) -> None:
        successor = self.record.successor
        if successor is not None and successor.ended is None:
            ended: Optional[ExitCause] = next((cause_of(status) for pid, status in self.seen.ended if pid == successor.pid), None)
            if ended is None and successor.adopted and not procfs.is_alive(successor.pid, successor.start_time):
                ended = UnknownExit("its shim had died")
            if ended is not None:
                self.journal.publish(successor=replace(successor, ended=cause_to_json(self._with_evidence(ended, successor))))
        super()._look()

    def _with_evidence(self, cause: ExitCause, successor: Successor) -> ExitCause:
        is_oom = isinstance(cause, Signaled) and successor.cgroup is not None and cgroups.oom_kills(successor.cgroup) > 0
        return replace(cause, oom=True) if is_oom and isinstance(cause, Signaled) else cause

    def _step(self) -> None:
        successor = self.record.successor
        if successor is not None and self._ends_all and self.record.state not in machine.ALIVE:
            self._whole_tree().end_now()
        elif successor is not None and successor.is_retiring and not self._ends_all:
            self._pursue_retiring(successor)
        super()._step()

    def _idle(self) -> None:
        successor = self.record.successor
        if successor is not None and self._ends_all and not self._whole_tree().members():
            self._forget(successor)
        if self.record.successor is None:
            super()._idle()

    def _over(self, cause: ExitCause) -> None:
        successor = self.record.successor
        if successor is not None and self._ends_all:
            self._forget(successor)
        elif successor is not None and not successor.is_retiring:
            self._show_out(successor)  # the wanted release is started anew, in the place of what has ended
        super()._over(cause)

    def _forget(self, successor: Successor) -> None:
        if successor.cgroup is not None:
            cgroups.remove(successor.cgroup)
        super()._forget(successor)

    def _tend(self) -> None:
        if self._may_overlap():
            self._succeed()
        else:
            super()._tend()

    def _may_overlap(self) -> bool:
        want, record, old = self.want, self.record, self.release
        is_at_work = record.state == machine.READY and record.ended is None
        if want is None or old is None or self._ends_all or not is_at_work or not self._is_superseded():
            return False
        new = self._read_release(want.version)
        return bool(old.sockets) and new is not None and bool(new.sockets) and self.sockets.are_whole and new.user == old.user

    def _judge(self, successor: Successor) -> None:
        trial = self._trial_of(successor)
        ended = cause_from_json(successor.ended)
        if ended is not None and self._goes_on(successor, ended):
            return
        failure = self.errands.result(PROBE, successor.run).get("failure")
        if ended is not None:
            ran = time.monotonic() - successor.clock
            self._turn_away(successor, f"{ended} after {ran:.2f} s, before it was ready", ended, readiness=failure)
        elif self._is_proved(trial):
            self._take_over(successor)
        elif self._is_late(trial):
            cause = self._not_ready(successor.run, trial.release)
            self._turn_away(successor, str(cause), cause, readiness=failure)

    def _trial_of(self, successor: Successor) -> Trial:
        return Trial(self._read_release(successor.version), successor.run, successor.pid, successor.clock)

    def _executed(self, successor: Successor) -> None:
        cgroup = cgroups.create(self._group_name(successor.run)) if successor.cgroup is None else None
        if cgroup is not None and cgroups.enter(cgroup, successor.pid):
            self.journal.publish(successor=replace(successor, cgroup=cgroup))
        self._is_proved(self._trial_of(successor))  # so that its checks begin at once

    def _goes_on(self, successor: Successor, ended: ExitCause) -> bool:
        """Whether its first process has left a daemon at work, which then is the successor."""
        first = next(iter(self._branch(successor).members()), None) if ended == Exited(0) else None
        if first is not None:
            self.journal.publish(successor=replace(successor, pid=first.pid, start_time=first.start_time, ended=None))
        return first is not None

    def _take_over(self, successor: Successor) -> None:
        step = {"name": "ready", "seconds": round(time.monotonic() - successor.clock, 4)}
        outcome = Outcome(successor.generation, successor.version, True, successor.run, steps=(*self._steps(), step))
        old = self.record.version
        self._hand_over(successor, outcome, since=clock.timestamp(), explanation=f"running; {old} finishes what it has begun")
        self.sockets.keep_only(self.release)
        self.journal.event("ready")
        self.journal.publish()

    def _show_out(self, successor: Successor) -> None:
        cancelled = self.errands.cancel()
        self.journal.event("stop", run=successor.run, reason="not taken", killed=cancelled)
        self.sockets.keep_only(self.release)
        self.journal.publish(successor=replace(successor, is_retiring=True, deadline=0.0))

    def _retire(self, retiring: Successor) -> None:
        release = self._read_release(retiring.version)
        policy = release.stop if release is not None else StopPolicy()
        self.journal.event("stop", run=retiring.run, reason="replaced", signal=policy.signal, grace_seconds=policy.grace_seconds)
        for process in self._branch(retiring).members():
            signals.send(process.pid, process.start_time, signal_number(policy.signal))

    def _retire_seconds(self) -> float:
        return self.release.stop.grace_seconds if self.release is not None else StopPolicy().grace_seconds

    def _pursue_retiring(self, retiring: Successor) -> None:
        branch = self._branch(retiring)
        if branch.members():
            if time.monotonic() >= retiring.deadline:
                branch.end_now()
            return
        cause = cause_from_json(retiring.ended) or UnknownExit("its parent did not tell")
        outcome, ran = self.record.outcome, time.monotonic() - retiring.clock
        by_itself = outcome is not None and outcome.run == retiring.run  # it failed its launch, or it was told to end
        if by_itself:
            self._write_capsule(retiring, cause)
        self.journal.remember_end(cause, ran, by_itself, run=retiring.run, version=retiring.version)
        self._forget(retiring)
        explanation = "running" if self.record.state == machine.READY else self.record.explanation
        self.journal.publish(explanation=explanation)

    def _write_capsule(self, failed: Successor, cause: ExitCause) -> None:
        started_at = clock.timestamp(time.time() - (time.monotonic() - failed.clock))
        record = replace(
            self.record, run=failed.run, version=failed.version, began=failed.began, cgroup=failed.cgroup, started_at=started_at,
            peak_bytes=0, cpu_seconds=0.0,
        )  # fmt: skip
        origin = failed.origin or origin_of(self._read_release(failed.version), self.layout)
        write_capsule(self.layout, record, origin, cause, self.seen.position)
