"""The way of a new release to its work, as far as a turn sees it: prepared, proved, or rejected."""

from __future__ import annotations

import os
import time
from typing import Any, Dict, NamedTuple, Optional

from agent.host import procfs, signals
from agent.model import Release
from agent.shim import machine
from agent.shim.capture import open_writer
from agent.shim.errand import PREPARE, PROBE
from agent.shim.preparation import prepare
from agent.shim.readiness import Subject, notify_name, open_notify, prove
from agent.shim.record import Outcome
from agent.shim.run import Run

#: Without a readiness of its own, a run is ready once it has been alive for this long.
READY_SECONDS = 1.0
#: A check that is under way when the time is over may still tell what it saw for so long.
LAST_WORD_SECONDS = 5.0


class Trial(NamedTuple):
    """A run that has yet to prove itself: its release, number, first process, and when it was started (monotonic clock)."""

    release: Optional[Release]
    run: int
    pid: int
    clock: float


class Launching(Run):
    """What a turn has to do with a release that is not yet the one at work."""

    # ------------------------------------------------------------------ preparation

    def _prepare(self) -> None:
        """Have the hooks and migrations of the wanted release run; what runs is left as it is until they have."""
        assert self.want is not None
        generation, version = self.want.generation, str(self.want.version)
        found = self.errands.result(PREPARE, generation)
        if found.get("done"):
            self.journal.note(steps=tuple(found["steps"]))
            if found["failure"] is None:
                self.journal.publish(prepared=generation)
            else:
                self._reject_unprepared(found["failure"])
        elif not self.errands.is_about(PREPARE, generation):
            release = self._read_release(version)
            assert release is not None
            output = open_writer(self.seen.reader)
            self.journal.event("prepare", version=version)
            self.errands.start(PREPARE, generation, lambda tell: prepare(release, self.layout, output, tell), [output])
            self.journal.publish(explanation=f"{self.record.state}; {version} is being prepared")
        elif self.errands.pid is None:
            self._end_all_of(version)
            self._reject_unprepared({"step": "before_launch", "reason": "its preparation was killed"})

    def _end_all_of(self, version: str) -> None:
        """What a killed preparation has left: it is of the new release, and what runs is of another."""
        entry = b"RELEASE_DIR=" + os.fsencode(self.layout.release(version))
        for process in self._tree().members():
            if procfs.has_environment(process.pid, entry):
                signals.send(process.pid, process.start_time, signals.SIGKILL)

    def _reject_unprepared(self, failure: Dict[str, Any]) -> None:
        self._reject(
            failure["reason"], failure["step"], exit_cause=failure.get("exit_cause"), output=failure.get("output"),
            steps=self.record.steps,
        )  # fmt: skip

    def _reject(self, reason: str, step: str, **members: Any) -> None:
        """The wanted release has failed; what was at work goes on, and what was not is started again if it can be."""
        assert self.want is not None
        version = str(self.want.version)
        outcome = Outcome(self.want.generation, version, False, reason=reason, step=step, **members)
        self.journal.event("rejected", version=version, reason=reason)
        is_idle = self.record.state in (machine.EXITED, machine.FAILED)
        self.journal.publish(
            generation=self.want.generation, outcome=outcome, settled=is_idle and self.want.fallback is None,
            explanation=f"{'not running' if is_idle else self.record.state}; {version} was rejected: {reason}",
        )  # fmt: skip

    # ------------------------------------------------------------------ proof

    def _on_trial(self) -> Trial:
        return Trial(self.release, self.record.run, self.record.pid or 0, self.record.started_clock)

    def _has_proved(self) -> bool:
        return self._is_proved(self._on_trial())

    def _is_proved(self, trial: Trial) -> bool:
        """By its readiness, which an errand asks about, or by having lived long enough."""
        if trial.release is None or trial.release.readiness is None:
            return time.monotonic() >= self._proof_ends(trial)
        found = self.errands.result(PROBE, trial.run)
        is_begun = self.errands.is_about(PROBE, trial.run)
        is_lost = is_begun and self.errands.may_start_again and time.monotonic() < self._proof_ends(trial)
        if not found.get("ready") and (not is_begun or is_lost):
            self._begin_probe(trial, trial.release)
        return bool(found.get("ready"))

    def _begin_probe(self, trial: Trial, release: Release) -> None:
        notify = self.notify
        if notify is None and release.readiness is not None and release.readiness.kind == "notify":
            notify = open_notify(notify_name(self.layout, trial.run))  # the errand that had it is gone
        began = time.time() - (time.monotonic() - trial.clock)
        held = tuple(release.sockets.values())
        subject = Subject(release, self.layout, trial.pid, began, self._proof_ends(trial), held, notify, self.before)
        keep = (notify.fileno(),) if notify is not None else ()
        self.errands.start(PROBE, trial.run, lambda tell: prove(subject, tell), keep)

    def _proof_ends(self, trial: Trial) -> float:
        """When (monotonic clock) that run has to be ready; without a readiness, is."""
        readiness = trial.release.readiness if trial.release is not None else None
        return trial.clock + (readiness.timeout_seconds if readiness is not None else READY_SECONDS)

    def _is_late(self, trial: Trial) -> bool:
        """Time is over, and the check that was under way has said what it saw, unless that takes too long as well."""
        if trial.release is None or trial.release.readiness is None:
            return False
        late_by = time.monotonic() - self._proof_ends(trial)
        return late_by >= LAST_WORD_SECONDS or (late_by >= 0 and self.errands.pid is None)
