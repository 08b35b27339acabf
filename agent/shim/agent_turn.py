"""A turn of the agent's own shim: as any other, plus succession.

A new release of the agent starts beside the old one, on the same sockets, and has to prove itself before the old
one drains; then the shim executes itself into the new release. A release that fails its proof is
never more than a visitor, and one that fails its probation is reverted (revert.py).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from typing import Any, Optional

from agent.host import procfs, signals
from agent.model import ExitCause, NotReady, Release, RestartPolicy, cause_to_json
from agent.shim import machine
from agent.shim.capture import open_writer
from agent.shim.environment import environment, marker
from agent.shim.nursery import Nursery
from agent.shim.record import Outcome, Successor, Want
from agent.shim.resident import Answer, Seen
from agent.shim.revert import PROBATION_SECONDS, is_from_outside, reason_to_revert
from agent.shim.succession import Succession
from agent.shim.tree import Spawned, Tree, cause_of, spawn
from agent.shim.verdict import is_superseded
from agent.store.layout import ProjectLayout

#: Within this a new agent has to be ready, or to say that a part of its self-test is done.
START_SECONDS = 25.0
#: For so long a ready one has to answer beside the old one before it takes over.
PROOF_SECONDS = 4.0
#: … and the last of its signs of life, one a second, is no older than this when it does.
FRESH_SECONDS = 2.0
#: An agent that gives no sign of life for so long is hung. A busy disk alone can make it late by seconds.
HUNG_SECONDS = 15.0
#: An agent that was ready, and ends by itself sooner than this after its start, has not served.
SERVED_SECONDS = 1.0
#: How long the old one may take to finish what is in flight.
RETIRE_SECONDS = 40.0
_LOOK_SECONDS = 0.2


class AgentTurn(Succession):
    """One turn. The nursery holds what outlives it: the listening sockets and the conversations with the agents."""

    STATUS_SECONDS = 0.0  # nobody of ours is above this shim

    def __init__(self, layout: ProjectLayout, seen: Seen, nursery: Nursery) -> None:
        super().__init__(layout, seen)
        self.nursery = nursery

    def take(self) -> Answer:
        if self.seen.leaving:
            self.nursery.notifier.stopping()
        return super().take()

    def _arrive(self) -> None:
        super()._arrive()
        if self.record.pid is not None:
            self.nursery.meet(self.record.pid, is_ready=True)
        if self.record.successor is not None:  # the shim that knew about it is gone: the want is still there
            signals.send(self.record.successor.pid, self.record.successor.start_time, signal.SIGTERM)
            self.journal.note(successor=None)

    def _look(self) -> None:
        successor = self.record.successor
        for pid, status in self.seen.ended:
            self.nursery.part(pid)
            if successor is not None and pid == successor.pid:
                if not successor.is_retiring and self._is_outdated and self._is_wanted(successor):
                    self._reject_successor(f"{cause_of(status)} before it had proved itself", cause_of(status), successor.run)
                self.journal.publish(successor=None)
            elif pid != self.record.pid:
                self.nursery.reaped(pid, status)
        old = self.record.successor
        if old is not None and old.is_retiring and not procfs.is_alive(old.pid, old.start_time):  # one that was adopted
            self.nursery.part(old.pid)
            self.journal.publish(successor=None)
        super()._look()

    def _due(self) -> float:
        now = time.monotonic()
        starting = max(self.record.started_clock + START_SECONDS, now + _LOOK_SECONDS)
        due = [super()._due() if self.record.state != machine.RUNNING else starting]
        agent = self.nursery.agent(self.record.pid)
        if self.record.successor is not None or self.record.hung:
            due.append(now + _LOOK_SECONDS)
        if agent is not None and agent.is_ready:
            due.append(max(agent.heard_clock + HUNG_SECONDS, now + _LOOK_SECONDS))
        return min((at for at in due if at > 0.0), default=0.0)

    def _is_empty(self) -> bool:
        return True  # what the agent forked ends with it; this shim's other children are the projects' shims

    def _has_proved(self) -> bool:
        agent = self.nursery.agent(self.record.pid)
        return agent is not None and agent.is_ready

    def _tree(self) -> Tree:
        return Tree(self.record.pid, self.seen.resident, marker(self.layout), None, scattered=False)

    def _join_group(self, pid: int) -> None:
        """The agent stays in the group that the host gave it: those of the projects are below it."""

    def _fork(self, release: Release, run: int, beside: bool) -> Spawned:
        output = open_writer(self.seen.reader)
        # the agent starts a new shim when this one is killed, and that one has to know whom to notify
        environ = {**environment(release, self.layout), **self.nursery.notifier.environment}
        if beside:
            environ["PROVE"] = "1"
        try:
            passed = self.nursery.pass_sockets(release)
            spawned = spawn(release.command, self.layout.release(release.version), environ, output, passed)
            self.nursery.meet(spawned.pid)
            return spawned
        finally:
            os.close(output)
            self.nursery.close_passed()

    def _proved(self) -> None:
        self.journal.note(probation_clock=time.monotonic() + PROBATION_SECONDS)

    def _begin_stop(self, reason: str) -> None:
        successor = self.record.successor
        if successor is not None:
            signals.send(successor.pid, successor.start_time, signal.SIGTERM)
        super()._begin_stop(reason)

    # ------------------------------------------------------------------ succession

    @property
    def _is_outdated(self) -> bool:
        """Whether another release, or the same once more, is wanted in the place of the agent at work."""
        return self.want is not None and self.want.up and is_superseded(self.want, self.record) and not self.seen.leaving

    def _is_wanted(self, successor: Successor) -> bool:
        return self.want is not None and self.want.generation == successor.generation

    def _is_superseded(self) -> bool:
        """An agent at work goes on until its successor has taken over; if it ends before that, it is started again."""
        successor = self.record.successor
        has_heir = successor is not None and not successor.is_retiring
        return super()._is_superseded() and not (self._is_outdated and (has_heir or self.record.state == machine.READY))

    def _step(self) -> None:
        self._pursue_retiring()
        if self._is_outdated and (self.record.state == machine.READY or self.record.successor is not None):
            self._succeed()
        super()._step()

    def _tend(self) -> None:
        self._end_if_hung()
        super()._tend()
        if self.record.state == machine.READY and self.record.successor is None and not self._is_outdated:
            self._execute_own_release()

    def _forget(self, successor: Successor) -> None:
        self.nursery.part(successor.pid)
        super()._forget(successor)

    def _hurry(self, retiring: Successor) -> None:
        signals.send(retiring.pid, retiring.start_time, signal.SIGKILL)  # its end is seen in a later turn

    def _judge(self, successor: Successor) -> None:
        agent, now = self.nursery.agent(successor.pid), time.monotonic()
        if agent is None or not agent.is_ready:
            if now - (successor.clock if agent is None else agent.heard_clock) > START_SECONDS:
                self._turn_away(successor, f"was not ready within {START_SECONDS:g} s")
        elif agent.silent_seconds > HUNG_SECONDS:
            self._turn_away(successor, "stopped answering before it had proved itself")
        elif agent.proved_from is None:
            agent.proved_from = now
        elif now - agent.proved_from >= PROOF_SECONDS and self.record.state == machine.READY:
            if agent.silent_seconds <= FRESH_SECONDS:
                self._take_over(successor)
        elif now - agent.proved_from >= PROOF_SECONDS + START_SECONDS:  # the one at work has ended and does not come back
            self._show_out(successor)  # the wanted one is started in its place

    def _show_out(self, successor: Successor) -> None:
        signals.send(successor.pid, successor.start_time, signal.SIGKILL)
        self.journal.publish(successor=replace(successor, is_retiring=True, deadline=0.0))

    def _reject_successor(self, reason: str, cause: Optional[ExitCause], run: int, **members: Any) -> None:
        super()._reject_successor(reason, cause, run, blameless=cause is not None and is_from_outside(cause), **members)

    def _take_over(self, successor: Successor) -> None:
        outcome = Outcome(successor.generation, successor.version, ready=True, run=successor.run)
        probation = time.monotonic() + PROBATION_SECONDS
        self._hand_over(successor, outcome, hung=False, probation_clock=probation, explanation="running, on probation")

    def _retire_seconds(self) -> float:
        return RETIRE_SECONDS

    def _retire(self, retiring: Successor) -> None:
        signals.send(retiring.pid, retiring.start_time, signal.SIGTERM)

    def _pursue_retiring(self) -> None:
        old = self.record.successor
        if old is not None and old.is_retiring and time.monotonic() > old.deadline:
            signals.send(old.pid, old.start_time, signal.SIGKILL)

    def _execute_own_release(self) -> None:
        """Go on as the shim of the release that runs. A shim that can't stays what it is and says so."""
        bundle = self.release.command[3] if self.release is not None else sys.argv[0]
        if os.path.realpath(bundle) == os.path.realpath(sys.argv[0]) or self.release is None or self.record.pid is None:
            return
        try:
            self.nursery.execute([*self.release.command[:4], "shim", self.nursery.store.root], self.record.pid)
        except OSError as error:
            sys.stderr.write(f"the shim can't execute {bundle}: {error.strerror}\n")

    # ------------------------------------------------------------------ probation

    def _end_if_hung(self) -> None:
        agent = self.nursery.agent(self.record.pid)
        if agent is not None and agent.is_ready:
            silent, limit = agent.silent_seconds, HUNG_SECONDS
        else:
            silent, limit = time.monotonic() - self.record.started_clock, START_SECONDS
        if silent <= limit or self.record.hung or self.record.pid is None:
            return
        self.journal.event("hung", silent_seconds=limit)
        self.journal.publish(hung=True, explanation=f"no sign of life for {limit:g} s: SIGKILL")
        signals.send(self.record.pid or 0, self.record.start_time or 0, signal.SIGKILL)

    def _restart_policy(self, cause: ExitCause, ran: float) -> RestartPolicy:
        """Callers wait: an agent that has served is started again at once, however often it ends; one that can't, backs off."""
        policy = super()._restart_policy(cause, ran)
        has_served = self.record.state == machine.READY and (ran >= SERVED_SECONDS or is_from_outside(cause))
        return replace(policy, max_delay_seconds=policy.delay_seconds) if has_served else policy

    def _ended_by_itself(self, cause: ExitCause, ran: float) -> None:
        reason, want = reason_to_revert(self.want, self.record, cause, time.monotonic()), self.want
        if self.record.hung and self.record.probation_clock == 0.0:
            cause = NotReady(f"it gave no sign of life for {START_SECONDS:g} s")
        self.journal.note(hung=False)
        if reason is None:
            if self._is_outdated and not self._is_superseded():  # until its heir takes over, what runs is what is wanted
                self.want = Want(True, self.record.generation, self.record.version)
            super()._ended_by_itself(cause, ran)
            self.want = want
            return
        record = self.record
        outcome = Outcome(record.generation, str(record.version), False, record.run, reason, cause_to_json(cause))
        self.journal.event("reverted", version=record.version, reason=reason)
        self.journal.go(machine.GIVE_UP, f"reverted: {reason}", outcome=outcome, settled=False, probation_clock=0.0)
