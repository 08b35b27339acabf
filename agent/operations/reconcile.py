"""Reconcile: a scan of the store that finishes whatever an agent or a shim died in the middle of.

Each project that needs a shim and has none gets one; each launch whose outcome is known and not yet concluded is; what a
dead process left in staging goes. What it remembers spares it work and decides nothing: a project that was left alone, and
whose shim and files have not changed since, is left alone again.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import sys
import threading
import time
from typing import Dict, Iterator, NamedTuple, Optional

from agent.errors import Conflict
from agent.host import files, standin
from agent.model import AGENT_PROJECT
from agent.operations import canary
from agent.operations.agent import Agent, changing
from agent.operations.log_budget import keep_budget
from agent.operations.outcome import conclude
from agent.shim.handle import Handle
from agent.shim.record import needs_shim
from agent.store import staging

INTERVAL_SECONDS = 2.0
#: So often, in scans, all logs are counted, and nothing is taken for granted.
_BUDGET_SCANS, _WHOLE_SCANS = 5, 30
#: No file system's clock is coarser (2 s: FAT).
_CLOCK_SECONDS = 3.0


class Look(NamedTuple):
    """What tells whether anything has happened to a project: every change of its want and record is a rename in its folder."""

    inode: int
    changed_nanoseconds: int
    is_alive: bool


#: By project, how it looked when there was nothing to do for it.
AtRest = Dict[str, Look]


def reconcile(agent: Agent, at_rest: AtRest) -> None:
    """One scan. A project that can't be looked at is named in the agent's log and does not hold up the others."""
    with _going_on("staging"):
        staging.sweep(agent.store)
    present = files.names(agent.store.projects)
    for gone in at_rest.keys() - set(present):
        del at_rest[gone]
    for project in present:
        with _going_on(project):
            handle = agent.handle(project)
            look = _look(handle)
            if look is None or at_rest.get(project) != look:
                at_rest.pop(project, None)
                if _see_to(agent, handle) and look is not None:
                    at_rest[project] = look


@contextlib.contextmanager
def _going_on(what: str) -> Iterator[None]:
    """For a block whose failure, whatever it is, costs nobody else a turn: it is told, and the next scan tries again."""
    try:
        yield
    except Exception as error:
        sys.stderr.write(f"reconcile {what}: {type(error).__name__}: {error}\n")


def _look(handle: Handle) -> Optional[Look]:
    """None where it can't be told: a file may have changed twice since the clock of the file system ticked, or has a stand-in."""
    try:
        found = os.stat(handle.layout.root)
    except FileNotFoundError:  # purged meanwhile
        return None
    if standin.any_below(handle.layout.root) or abs(time.time() - found.st_mtime) < _CLOCK_SECONDS:
        return None
    return Look(found.st_ino, found.st_mtime_ns, handle.is_alive)


def _see_to(agent: Agent, handle: Handle) -> bool:
    """Do what is to be done; whether nothing is left to do."""
    want = handle.want()
    if want is None:
        return True
    handle.persist_want()
    conclude(agent, handle)
    if not handle.is_alive:
        handle.see_to_it()
    if handle.layout.project == canary.CANARY:
        _clear_canary(agent)
        return False
    return handle.is_alive or not needs_shim(handle.want(), handle.record())


def _clear_canary(agent: Agent) -> None:
    """One that no new agent is proving itself with: that one was killed. (A proof goes on record before its canary is there.)"""
    handle = agent.handle(AGENT_PROJECT)
    # whoever launches an agent clears up afterwards
    with contextlib.suppress(Conflict), changing(handle, "clear a canary", "the agent itself"):
        record = handle.record()
        successor = record.successor if record is not None else None
        if successor is None or successor.is_retiring:
            canary.clear(agent)


def keep_reconciling(agent: Agent, stopped: threading.Event) -> None:
    """Scan now and every few seconds, at times that differ between the hosts of a fleet."""
    at_rest: AtRest = {}
    for number in itertools.count():
        if stopped.is_set():
            return
        if number % _WHOLE_SCANS == 0:
            at_rest.clear()
        with _going_on("projects"):
            reconcile(agent, at_rest)
        if number % _BUDGET_SCANS == 0:
            with _going_on("the budget for logs"):
                keep_budget(agent)
        stopped.wait(INTERVAL_SECONDS * random.uniform(0.8, 1.2))
