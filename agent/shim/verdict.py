"""What the end of a run that ended by itself means: for the launch it may have been, and for what follows. Pure.

While a launch is being proved there are no second tries: the outcome is failed at once, and the
fallback (or nothing) runs. After that the restart policy speaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from agent.model import ExitCause, FailedToStart, NotReady, RestartPolicy, cause_to_json
from agent.shim import machine, restarts
from agent.shim.record import Outcome, Record, Want


@dataclass(frozen=True)
class Verdict:
    """The machine's event, why, and what the record gets; `delay_seconds` is for machine.RETRY."""

    event: str
    reason: str
    settled: bool = False
    delay_seconds: float = 0.0
    failures: int = 0
    outcome: Optional[Outcome] = None


def is_superseded(want: Optional[Want], record: Record) -> bool:
    """Whether the run on record is not what is wanted now."""
    return want is None or not want.up or want.generation != record.generation


def is_proving(want: Optional[Want], record: Record) -> bool:
    """Whether the run on record decides how the launch of the wanted generation ends."""
    outcome = record.outcome
    return not is_superseded(want, record) and (outcome is None or outcome.generation != record.generation)


def must_prepare(want: Optional[Want], record: Record) -> bool:
    """Whether the wanted release's hooks and migrations, if it has any, come before anything changes."""
    if want is None or not want.up or not want.prepare or record.prepared == want.generation:
        return False
    return is_superseded(want, record)


def version_to_run(want: Want, record: Record) -> str:
    """The wanted release, or the fallback once that one has failed."""
    outcome = record.outcome
    failed = outcome is not None and not outcome.ready and not want.concluded
    if failed and outcome is not None and (outcome.generation, outcome.version) == (want.generation, want.version):
        return str(want.fallback)
    return str(want.version)


def outcome_of(record: Record, ready: bool, reason: str = "", cause: Optional[ExitCause] = None) -> Outcome:
    """The outcome that the run on record gives its generation."""
    exit_cause = cause_to_json(cause) if cause is not None else None
    step = "start" if isinstance(cause, FailedToStart) else "ready"
    return Outcome(record.generation, str(record.version), ready, record.run, reason, exit_cause, step, steps=record.steps)


def verdict(
    want: Optional[Want], record: Record, policy: RestartPolicy, cause: ExitCause, ran_seconds: float
) -> Verdict:  # fmt: skip
    """What follows the end of the run on record, by itself, with this cause."""
    if want is None or is_superseded(want, record):
        return Verdict(machine.FINISH, str(cause))
    decision = restarts.decide(policy, cause, ran_seconds, record.failures)
    is_done = decision.action == restarts.FINISH
    if is_proving(want, record):
        if is_done:  # a run-once program that has done its work
            outcome = outcome_of(record, True, decision.reason, cause)
            return Verdict(machine.FINISH, decision.reason, settled=True, outcome=outcome)
        reason = f"{cause} after {ran_seconds:.2f} s, before it was ready"
        if isinstance(cause, (FailedToStart, NotReady)):
            reason = str(cause)
        outcome = outcome_of(record, False, reason, cause)
        return Verdict(machine.GIVE_UP, reason, settled=want.fallback is None, outcome=outcome)
    if decision.action == restarts.RESTART:
        return Verdict(machine.RETRY, decision.reason, False, decision.delay_seconds, decision.failures)
    return Verdict(machine.FINISH if is_done else machine.GIVE_UP, decision.reason, settled=True)
