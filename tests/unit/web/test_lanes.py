"""Lanes: room for so many, and never a place lost."""

from __future__ import annotations

import contextlib

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
    threads = [24]
    lanes = make_lanes(24, 100, threads.append)
    with contextlib.ExitStack() as launches:
        for launched in range(1, 101):
            launches.enter_context(lanes["launch"])
            assert threads[-1] - launched - lanes["kill"]._limit >= 4
        with pytest.raises(Busy):
            lanes["launch"].require_room()
    assert (max(threads), threads[-1]) == (108, 24)


def test_a_launch_for_which_there_is_no_thread_takes_no_place() -> None:
    def refuse(active: int) -> None:
        raise RuntimeError("can't start new thread")

    lane = Lane("launch", 1, refuse)
    with pytest.raises(RuntimeError), lane:
        raise AssertionError("there was no thread")
    lane.require_room()
