"""What the end of a run means: for the launch that it may have been, and for what follows."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import NamedTuple, Optional

import pytest

from agent.model import ExitCause, Exited, FailedToStart, NotReady, RestartPolicy, Signaled, UnknownExit, cause_to_json
from agent.shim import machine
from agent.shim.record import Outcome, Record, Want
from agent.shim.verdict import is_proving, is_superseded, outcome_of, verdict, version_to_run

WANT = Want(True, 4, "2", fallback="1")
RECORD = Record("web", "running", generation=4, version="2", run=9, failures=2)
PROVED = Outcome(4, "2", True, 9)
FAILED = Outcome(4, "2", False, 9, "exited with code 7", cause_to_json(Exited(7)))
EARLIER = Outcome(3, "1", True, 5)

CLEAN = Exited(0)
CRASHES = (Exited(7), Signaled(9), FailedToStart("no such file"), NotReady("no answer"), UnknownExit("unseen"))


class Follows(NamedTuple):
    """The event, whether everything is done for this generation, and what the launch got (None: it had its outcome)."""

    event: str
    settled: bool
    ready: Optional[bool]


#: (the launch is being proved, there is a fallback, policy, the end was clean)
TABLE = {
    # after a proof the policy speaks, and the fallback is of no concern
    (False, True, "always", True): Follows(machine.RETRY, False, None),
    (False, True, "always", False): Follows(machine.RETRY, False, None),
    (False, True, "on-failure", True): Follows(machine.FINISH, True, None),
    (False, True, "on-failure", False): Follows(machine.RETRY, False, None),
    (False, True, "never", True): Follows(machine.FINISH, True, None),
    (False, True, "never", False): Follows(machine.GIVE_UP, True, None),
    (False, False, "always", True): Follows(machine.RETRY, False, None),
    (False, False, "always", False): Follows(machine.RETRY, False, None),
    (False, False, "on-failure", True): Follows(machine.FINISH, True, None),
    (False, False, "on-failure", False): Follows(machine.RETRY, False, None),
    (False, False, "never", True): Follows(machine.FINISH, True, None),
    (False, False, "never", False): Follows(machine.GIVE_UP, True, None),
    # while it is proved there is no second try: done at once, or failed at once
    (True, True, "always", True): Follows(machine.GIVE_UP, False, False),
    (True, True, "always", False): Follows(machine.GIVE_UP, False, False),
    (True, True, "on-failure", True): Follows(machine.FINISH, True, True),
    (True, True, "on-failure", False): Follows(machine.GIVE_UP, False, False),
    (True, True, "never", True): Follows(machine.FINISH, True, True),
    (True, True, "never", False): Follows(machine.GIVE_UP, False, False),
    (True, False, "always", True): Follows(machine.GIVE_UP, True, False),
    (True, False, "always", False): Follows(machine.GIVE_UP, True, False),
    (True, False, "on-failure", True): Follows(machine.FINISH, True, True),
    (True, False, "on-failure", False): Follows(machine.GIVE_UP, True, False),
    (True, False, "never", True): Follows(machine.FINISH, True, True),
    (True, False, "never", False): Follows(machine.GIVE_UP, True, False),
}

POLICIES = ("always", "on-failure", "never")
CAUSES = (CLEAN, *CRASHES)
SUPERSEDED = (None, replace(WANT, up=False), replace(WANT, generation=5))


def of(is_being_proved: bool) -> Record:
    return replace(RECORD, outcome=EARLIER if is_being_proved else PROVED)


def test_the_table_is_whole() -> None:
    assert set(TABLE) == set(itertools.product((False, True), (False, True), POLICIES, (False, True)))


@pytest.mark.parametrize("cause", CAUSES, ids=str)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("fallback", ["1", None])
@pytest.mark.parametrize("proving", [True, False])
def test_what_follows_an_end(proving: bool, fallback: Optional[str], policy: str, cause: ExitCause) -> None:
    found = verdict(replace(WANT, fallback=fallback), of(proving), RestartPolicy(policy), cause, 0.5)
    expected = TABLE[proving, fallback is not None, policy, cause == CLEAN]
    assert (found.event, found.settled) == (expected.event, expected.settled)
    assert str(cause) in found.reason
    if expected.ready is None:
        assert found.outcome is None
    else:
        step = "start" if isinstance(cause, FailedToStart) else "ready"
        assert found.outcome == Outcome(4, "2", expected.ready, 9, found.reason, cause_to_json(cause), step)


@pytest.mark.parametrize("cause", CAUSES, ids=str)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("want", SUPERSEDED, ids=["no want", "down", "a newer generation"])
@pytest.mark.parametrize("proving", [True, False])
def test_the_end_of_what_is_no_longer_wanted_is_an_end(
    proving: bool, want: Optional[Want], policy: str, cause: ExitCause
) -> None:  # fmt: skip
    found = verdict(want, of(proving), RestartPolicy(policy), cause, 0.5)
    assert (found.event, found.reason, found.settled, found.outcome) == (machine.FINISH, str(cause), False, None)


@pytest.mark.parametrize(("proving", "policy", "cause"), list(itertools.product((True, False), POLICIES, CAUSES)))
@pytest.mark.parametrize("state", ["starting", "running", "ready", "stopping"])
def test_every_verdict_can_be_taken_in_every_state_with_a_run(
    state: str, proving: bool, policy: str, cause: ExitCause
) -> None:  # fmt: skip
    for want in (WANT, *SUPERSEDED):
        event = verdict(want, of(proving), RestartPolicy(policy), cause, 0.5).event
        assert machine.next_state(state, event) not in machine.ALIVE


def test_a_retry_carries_its_delay_and_the_count() -> None:
    found = verdict(WANT, of(False), RestartPolicy("always", 0.1, 30.0, 10.0), Exited(7), 0.5)
    assert (found.delay_seconds, found.failures) == (0.4, 3)
    stable = verdict(WANT, of(False), RestartPolicy("always", 0.1, 30.0, 10.0), Exited(7), 60.0)
    assert (stable.delay_seconds, stable.failures) == (0.1, 1)


def test_a_launch_without_a_second_try_says_how_long_it_lived() -> None:
    assert verdict(WANT, of(True), RestartPolicy(), Exited(7), 0.254).reason == (
        "exited with code 7 after 0.25 s, before it was ready"
    )


@pytest.mark.parametrize("outcome", [None, EARLIER, PROVED, FAILED])
def test_a_launch_is_proved_once(outcome: Optional[Outcome]) -> None:
    record = replace(RECORD, outcome=outcome)
    assert is_proving(WANT, record) == (outcome in (None, EARLIER))
    assert not any(is_proving(want, record) for want in SUPERSEDED)


def test_what_is_superseded() -> None:
    assert not is_superseded(WANT, RECORD)
    assert all(is_superseded(want, RECORD) for want in SUPERSEDED)


@pytest.mark.parametrize(
    ("outcome", "version"),
    [
        (None, "2"), (PROVED, "2"), (FAILED, "1"),
        (replace(FAILED, generation=3), "2"),  # an earlier launch of the same version failed; this one is another try
        (replace(FAILED, version="1"), "2"),
    ],
)  # fmt: skip
def test_the_fallback_runs_once_the_wanted_version_has_failed(outcome: Optional[Outcome], version: str) -> None:
    assert version_to_run(WANT, replace(RECORD, outcome=outcome)) == version


def test_a_failed_launch_leads_to_its_fallback_and_that_one_to_a_regular_life() -> None:
    failed = verdict(WANT, of(True), RestartPolicy(), Exited(7), 0.1)
    record = replace(of(True), outcome=failed.outcome)
    assert version_to_run(WANT, record) == "1"
    fallback_run = replace(record, version="1", run=10, failures=0)
    assert not is_proving(WANT, fallback_run)
    assert verdict(WANT, fallback_run, RestartPolicy(), Exited(1), 0.1).event == machine.RETRY


def test_an_outcome_names_the_run_that_made_it() -> None:
    assert outcome_of(RECORD, True) == PROVED
    assert outcome_of(RECORD, False, "exited with code 7", Exited(7)) == FAILED
