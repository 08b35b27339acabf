"""When a new agent is taken back, and when it is not."""

from __future__ import annotations

from typing import Optional

import pytest

from agent.model import ExitCause, Exited, FailedToStart, Signaled, UnknownExit
from agent.shim.record import Record, Want
from agent.shim.revert import reason_to_revert

WANT = Want(True, 7, "2.0", fallback="1.0")
ON_PROBATION = Record("ant-host-agent", state="ready", generation=7, version="2.0", probation_clock=100.0)
WITHIN, AFTER = 99.9, 100.0


@pytest.mark.parametrize(
    "cause", [Exited(0), Exited(1), Signaled(11, True), Signaled(6), UnknownExit("nobody knows"), FailedToStart("no interpreter")]
)
def test_an_end_by_itself_reverts_within_the_probation_only(cause: ExitCause) -> None:
    assert reason_to_revert(WANT, ON_PROBATION, cause, WITHIN) == f"{cause} within its probation"
    assert reason_to_revert(WANT, ON_PROBATION, cause, AFTER) is None


@pytest.mark.parametrize("number", [9, 15])
def test_a_kill_from_outside_proves_nothing_until_it_comes_the_third_time(number: int) -> None:
    reverted = [
        reason_to_revert(WANT, Record(**{**vars(ON_PROBATION), "failures": failures}), Signaled(number), WITHIN) is not None
        for failures in range(4)
    ]
    assert reverted == [False, False, True, True]


def test_a_hung_one_is_reverted_although_it_ends_by_our_own_kill() -> None:
    hung = Record(**{**vars(ON_PROBATION), "hung": True})
    assert reason_to_revert(WANT, hung, Signaled(9), WITHIN) == "stopped answering within its probation"
    assert reason_to_revert(WANT, hung, Signaled(9), AFTER) is None


@pytest.mark.parametrize("want", [None, Want(True, 7, "2.0"), Want(True, 7, "2.0", fallback="2.0")])
def test_nothing_is_reverted_to_nothing_or_to_itself(want: Optional[Want]) -> None:
    assert reason_to_revert(want, ON_PROBATION, Exited(1), WITHIN) is None
