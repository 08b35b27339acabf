"""The restart policy: which ends are followed by another run, after how long, and what is said about it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import ExitCause, Exited, FailedToStart, RestartPolicy, Signaled, UnknownExit
from agent.shim.restarts import CRASH_LOOP, FINISH, GIVE_UP, RESTART, backoff, decide

CLEAN = Exited(0)
CRASHES = (Exited(1), Exited(255), Signaled(9), Signaled(11, True), FailedToStart("no such file"), UnknownExit("unseen"))

delays = st.floats(0, 1e6)
failures = st.integers(0, 10**6)
causes = st.one_of(
    st.integers(0, 255).map(Exited), st.builds(Signaled, st.integers(1, 64), st.booleans()),
    st.builds(FailedToStart, st.text(max_size=20)), st.builds(UnknownExit, st.text(max_size=20)),
)  # fmt: skip
policies = st.builds(RestartPolicy, st.sampled_from(("always", "on-failure", "never")), delays, delays, delays)
always = st.builds(RestartPolicy, st.just("always"), delays, delays, delays)


@pytest.mark.parametrize(
    ("policy", "after_clean", "after_crash"),
    [("always", RESTART, RESTART), ("on-failure", FINISH, RESTART), ("never", FINISH, GIVE_UP)],
)
def test_what_follows_each_kind_of_end(policy: str, after_clean: str, after_crash: str) -> None:
    assert decide(RestartPolicy(policy), CLEAN, 0.0, 0).action == after_clean
    for cause in CRASHES:
        assert decide(RestartPolicy(policy), cause, 0.0, 0).action == after_crash


def test_delays_double_up_to_the_maximum_and_stay_there() -> None:
    policy = RestartPolicy("always", 0.1, 3.0, 10.0)
    assert [backoff(policy, count) for count in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 3.0, 3.0]


def test_a_run_of_exactly_the_reset_time_is_a_stable_one() -> None:
    policy = RestartPolicy(reset_seconds=10.0)
    assert decide(policy, Exited(1), 10.0, 7).failures == 1
    assert decide(policy, Exited(1), math.nextafter(10.0, 0.0), 7).failures == 8


def test_the_fifth_end_in_a_row_is_called_a_crash_loop() -> None:
    count, reasons = 0, []
    for _ in range(CRASH_LOOP):
        decision = decide(RestartPolicy(), Exited(5), 0.5, count)
        count = decision.failures
        reasons.append(decision.reason)
    assert ["crash loop" in reason for reason in reasons] == [False] * (CRASH_LOOP - 1) + [True]
    assert reasons[-1] == (
        "exited with code 5 after 0.5 s; starting again in 1.6 s (a crash loop: 5 ends in a row, none after 10 s of running)"
    )


@given(always, causes, delays, failures)
def test_always_never_gives_up(policy: RestartPolicy, cause: ExitCause, ran_seconds: float, count: int) -> None:
    assert decide(policy, cause, ran_seconds, count).action == RESTART


@given(policies, causes, delays, failures)
def test_any_decision_keeps_its_promises(
    policy: RestartPolicy, cause: ExitCause, ran_seconds: float, count: int
) -> None:  # fmt: skip
    decision = decide(policy, cause, ran_seconds, count)
    assert str(cause) in decision.reason
    assert 0 <= decision.delay_seconds <= policy.max_delay_seconds
    if decision.action != RESTART:
        assert (decision.delay_seconds, decision.failures) == (0.0, 0)
        assert (decision.action == FINISH) == (cause == CLEAN)
    elif ran_seconds >= policy.reset_seconds:
        assert decision.failures == 1
        assert decision.delay_seconds == min(policy.delay_seconds, policy.max_delay_seconds)
    else:
        assert decision.failures == count + 1


@given(always, failures, failures)
def test_a_later_failure_never_waits_less(policy: RestartPolicy, one: int, other: int) -> None:
    assert backoff(policy, min(one, other)) <= backoff(policy, max(one, other))


@given(always, failures)
def test_one_more_failure_at_most_doubles_the_wait(policy: RestartPolicy, count: int) -> None:
    assert backoff(policy, count + 1) <= 2 * max(backoff(policy, count), policy.delay_seconds)


@given(st.floats(1e-3, 1e6), st.floats(1e-3, 1e6))
def test_the_maximum_is_reached(delay: float, most: float) -> None:
    assert backoff(RestartPolicy("always", delay, most), 64) == most
