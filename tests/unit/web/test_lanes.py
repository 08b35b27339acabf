"""Lanes: room for so many, and never a place lost."""

from __future__ import annotations

import pytest

from agent.errors import Busy
from agent.web.lanes import Lane, make_lanes


def test_beyond_its_limit_a_lane_is_busy_and_a_failure_gives_its_place_back() -> None:
    lane = Lane("launch", 1)
    with lane:
        with pytest.raises(Busy) as raised, lane:
            raise AssertionError("there was no room")
        assert raised.value.headers["Retry-After"] == "5"
        with pytest.raises(Busy):
            lane.require_room()
    with pytest.raises(KeyError), lane:
        raise KeyError
    lane.require_room()


def test_slow_calls_leave_four_workers_to_the_quick_ones() -> None:
    lanes = make_lanes(24)
    assert lanes["launch"]._limit + lanes["kill"]._limit == 24 - 4
