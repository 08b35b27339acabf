"""The checker itself: what has an order passes, what has none is told."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.history import LOST, UNKNOWN, Call, Project, explain

ONE = UNKNOWN.runs("1")
#: Both releases are there; of two launches it is the second, of one after a rollback the first that runs.
TWO, BACK = ONE.runs("2"), ONE.runs("2").runs("1")


def call(verb: str, argument: str, began: float, ended: float, answered: int, **reply: Any) -> Call:
    return Call(0, verb, argument, began, math.inf if answered == LOST else ended, answered, reply)


@pytest.mark.parametrize(
    ("calls", "end"),
    [
        ([call("launch", "1", 0, 1, 201), call("status", "", 2, 3, 200, want="up")], ONE),
        ([call("launch", "1", 0, 9, 201), call("status", "", 2, 3, 404), call("status", "", 4, 5, 200, want="up")], ONE),
        ([call("launch", "1", 0, 1, LOST), call("kill", "", 2, 3, 404), call("status", "", 4, 5, 200, want="up")], ONE),
        ([call("launch", "1", 0, 9, 201), call("launch", "2", 0, 9, 201)], TWO),
        ([call("launch", "1", 0, 9, 201), call("launch", "2", 0, 9, 201)], BACK),
        ([call("launch", "1", 0, 1, 201), call("kill", "", 2, 3, 200, status="Successful", killed=[7])], ONE.down),
        ([call("launch", "1", 0, 1, LOST)], UNKNOWN),
        ([call("launch", "1", 0, 1, LOST), call("status", "", 2, 3, 200, want="up")], replace(ONE.down, current=None)),
        ([call("launch", "1", 0, 1, LOST), call("rollback", "1", 2, 3, 404)], Project(kept=("1",))),
        ([call("launch", "1", 0, 1, 201), call("launch", "2", 2, 3, 201), call("rollback", "", 4, 5, 200, version="1")], BACK),
        ([call("launch", "1", 0, 1, 201), call("rollback", "", 2, 3, 409, detail="none is older")], ONE),
        ([call("set secret", "a", 0, 3, 201), call("set secret", "a", 0, 3, 200)], Project(secrets=frozenset("a"))),
        ([call("set secret", "a", 0, 1, 201), call("delete secret", "a", 2, 3, LOST), call("secrets", "", 4, 5, 404)], UNKNOWN),
        ([call("launch", "1", 0, 1, 201), call("purge", "", 2, 3, 409, under_way=True)], ONE.down),
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
        ([call("launch", "1", 0, 1, 201), call("purge", "", 2, 3, 409, under_way=True)], UNKNOWN),
        ([call("broken", "x", 0, 1, 201)], UNKNOWN.runs("x")),
        ([call("launch", "1", 0, 1, 201), call("launch", "2", 2, 3, 201), call("rollback", "", 4, 5, 200, version="2")], TWO),
        ([call("launch", "1", 0, 1, 201), call("launch", "2", 2, 3, 201), call("restart", "", 4, 5, 200, version="1")], BACK),
        ([call("launch", "1", 0, 1, 201), call("rollback", "1", 2, 3, 409, detail="none is older")], ONE),
        ([call("launch", "1", 0, 1, 507)], ONE),
        ([call("launch", "1", 0, 1, 201), call("launch", "2", 2, 3, LOST), call("status", "", 4, 5, 200, want="up")], ONE.down),
        ([call("set secret", "a", 0, 3, 201), call("set secret", "a", 0, 3, 201)], Project(secrets=frozenset("a"))),
        ([call("set secret", "a", 0, 1, 201), call("secrets", "", 2, 3, 200, secrets=[])], UNKNOWN),
    ],
)
def test_a_lie_is_told(calls: Any, end: Project) -> None:
    assert "no call marked ? can be next" in str(explain(calls, [end]))
