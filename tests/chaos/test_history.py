"""The checker itself: what has an order passes, what has none is told."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.chaos.history import DOWN, LOST, UNKNOWN, Call, Project, explain

ONE, TWO = Project(True, "1"), Project(True, "2")


def call(verb: str, argument: str, began: float, ended: float, answered: int, **reply: Any) -> Call:
    return Call(0, verb, argument, began, math.inf if answered == LOST else ended, answered, reply)


@pytest.mark.parametrize(
    ("calls", "end"),
    [
        ([call("launch", "1", 0, 1, 201), call("status", "", 2, 3, 200, want="up")], ONE),
        ([call("launch", "1", 0, 9, 201), call("status", "", 2, 3, 404), call("status", "", 4, 5, 200, want="up")], ONE),
        ([call("launch", "1", 0, 1, LOST), call("kill", "", 2, 3, 404), call("status", "", 4, 5, 200, want="up")], ONE),
        ([call("launch", "1", 0, 9, 201), call("launch", "2", 0, 9, 201)], TWO),
        ([call("launch", "1", 0, 9, 201), call("launch", "2", 0, 9, 201)], ONE),
        ([call("launch", "1", 0, 1, 201), call("kill", "", 2, 3, 200, status="Successful", killed=[7])], DOWN),
        ([call("launch", "1", 0, 1, LOST)], UNKNOWN),
    ],
)
def test_an_order_is_found(calls: Any, end: Project) -> None:
    assert explain(calls, [end]) is None


@pytest.mark.parametrize(
    ("calls", "end"),
    [
        ([call("launch", "1", 0, 1, 201), call("status", "", 2, 3, 404)], ONE),
        ([call("launch", "1", 0, 1, 201), call("launch", "2", 2, 3, 201)], ONE),
        ([call("launch", "1", 0, 1, 201), call("kill", "", 2, 3, 200, status="Successful", killed=[7])], ONE),
        ([call("launch", "1", 0, 1, 201), call("launch", "2", 2, 3, 200)], ONE),
        ([call("launch", "1", 0, 1, 201), call("purge", "", 2, 3, 200), call("kill", "", 4, 5, 200)], UNKNOWN),
        ([call("broken", "x", 0, 1, 201)], Project(True, "x")),
    ],
)
def test_a_lie_is_told(calls: Any, end: Project) -> None:
    assert "no call marked ? can be next" in str(explain(calls, [end]))
