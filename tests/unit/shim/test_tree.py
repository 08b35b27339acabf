"""The exit cause in a wait status, bit by bit as wait(2) has them."""

from __future__ import annotations

import pytest

from agent.model import ExitCause, Exited, Signaled
from agent.shim.tree import cause_of


@pytest.mark.parametrize(
    ("status", "cause"),
    [(0, Exited(0)), (7 << 8, Exited(7)), (255 << 8, Exited(255)), (9, Signaled(9)), (15, Signaled(15)),
     (11 | 0x80, Signaled(11, core=True)), (40, Signaled(40))],
)  # fmt: skip
def test_the_cause_in_a_wait_status(status: int, cause: ExitCause) -> None:
    assert cause_of(status) == cause
