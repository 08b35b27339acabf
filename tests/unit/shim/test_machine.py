"""The life of a project: every state meets every event, and the table is the only answer."""

from __future__ import annotations

import itertools
from typing import Set

import pytest

from agent.shim import machine

#: What leads where, told once more and by state: a change of the table has to be meant.
EXPECTED = {
    "starting": {"executed": "running", "stop": "stopping", "retry": "backoff", "finish": "exited", "give_up": "failed"},
    "running": {"proved": "ready", "stop": "stopping", "retry": "backoff", "finish": "exited", "give_up": "failed"},
    "ready": {"stop": "stopping", "retry": "backoff", "finish": "exited", "give_up": "failed"},
    "backoff": {"start": "starting", "finish": "exited"},
    "stopping": {"retry": "backoff", "finish": "exited", "give_up": "failed"},
    "exited": {"start": "starting", "finish": "exited"},
    "failed": {"start": "starting", "finish": "exited"},
}

PRODUCT = list(itertools.product(machine.STATES, machine.EVENTS))


def reachable(state: str) -> Set[str]:
    """All states that events lead to from this one, itself included."""
    found, todo = {state}, [state]
    while todo:
        here = todo.pop()
        following = {target for (source, _), target in machine.TRANSITIONS.items() if source == here}
        todo += following - found
        found |= following
    return found


def test_the_table_speaks_of_known_states_and_events_only() -> None:
    assert set(machine.TRANSITIONS) <= set(PRODUCT)
    assert set(machine.TRANSITIONS.values()) <= set(machine.STATES)
    assert set(EXPECTED) == set(machine.STATES)


@pytest.mark.parametrize(("state", "event"), PRODUCT)
def test_every_state_meets_every_event(state: str, event: str) -> None:
    expected = EXPECTED[state].get(event)
    if expected is not None:
        assert machine.next_state(state, event) == expected
        return
    with pytest.raises(ValueError) as refused:
        machine.next_state(state, event)
    assert repr(state) in str(refused.value) and repr(event) in str(refused.value)


def test_every_event_happens_somewhere() -> None:
    assert {event for _, event in machine.TRANSITIONS} == set(machine.EVENTS)


def test_every_state_is_reached_from_a_project_that_never_ran() -> None:
    assert reachable(machine.EXITED) == set(machine.STATES)


@pytest.mark.parametrize("state", machine.STATES)
def test_no_state_is_a_dead_end(state: str) -> None:
    assert {machine.EXITED, machine.READY} <= reachable(state)


def test_a_run_begins_in_starting_only() -> None:
    begun = {
        (source, target)
        for (source, _), target in machine.TRANSITIONS.items()
        if source not in machine.ALIVE and target in machine.ALIVE
    }
    assert {target for _, target in begun} == {machine.STARTING}
    assert {source for source, _ in begun} == set(machine.STATES) - set(machine.ALIVE)


def test_only_what_is_alive_can_be_stopped() -> None:
    stoppable = {state for state, event in machine.TRANSITIONS if event == machine.STOP}
    assert stoppable == set(machine.ALIVE) - {machine.STOPPING}


def test_what_is_stopping_never_comes_back_to_life() -> None:
    following = {target for (source, _), target in machine.TRANSITIONS.items() if source == machine.STOPPING}
    assert following.isdisjoint(machine.ALIVE)
