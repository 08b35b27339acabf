"""The life of a project as data: states, events, and the one table of what leads where.

No I/O and no clock. README's diagram is drawn from TRANSITIONS, and the tests walk the whole
product of states and events.
"""

from __future__ import annotations

from typing import Dict, Tuple

STARTING, RUNNING, READY, BACKOFF, STOPPING, EXITED, FAILED = (
    "starting", "running", "ready", "backoff", "stopping", "exited", "failed",
)  # fmt: skip
STATES = (STARTING, RUNNING, READY, BACKOFF, STOPPING, EXITED, FAILED)

#: A run exists in these, so that a process may be alive.
ALIVE = (STARTING, RUNNING, READY, STOPPING)

START, EXECUTED, PROVED, STOP, RETRY, FINISH, GIVE_UP = (
    "start", "executed", "proved", "stop", "retry", "finish", "give_up",
)  # fmt: skip
EVENTS = (START, EXECUTED, PROVED, STOP, RETRY, FINISH, GIVE_UP)

TRANSITIONS: Dict[Tuple[str, str], str] = {
    # a new run, wanted or due
    (EXITED, START): STARTING,
    (FAILED, START): STARTING,
    (BACKOFF, START): STARTING,
    # exec succeeded; then it was ready, or alive long enough
    (STARTING, EXECUTED): RUNNING,
    (RUNNING, PROVED): READY,
    # kill, replacement, or what a crashed leader left behind
    (STARTING, STOP): STOPPING,
    (RUNNING, STOP): STOPPING,
    (READY, STOP): STOPPING,
    # the tree is empty and the restart policy has spoken
    (STARTING, RETRY): BACKOFF,
    (RUNNING, RETRY): BACKOFF,
    (READY, RETRY): BACKOFF,
    (STOPPING, RETRY): BACKOFF,
    (STARTING, FINISH): EXITED,
    (RUNNING, FINISH): EXITED,
    (READY, FINISH): EXITED,
    (STOPPING, FINISH): EXITED,
    (BACKOFF, FINISH): EXITED,
    (STARTING, GIVE_UP): FAILED,
    (RUNNING, GIVE_UP): FAILED,
    (READY, GIVE_UP): FAILED,
    (STOPPING, GIVE_UP): FAILED,
    # want is down and nothing ever ran, or a failed launch is put away
    (EXITED, FINISH): EXITED,
    (FAILED, FINISH): EXITED,
}


def next_state(state: str, event: str) -> str:
    """Where `event` leads from `state`; ValueError for what can't happen."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ValueError(f"{event!r} can't happen in state {state!r}") from None
