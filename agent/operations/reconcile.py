"""Reconcile: a scan of the store that finishes whatever an agent or a shim died in the middle of.

It remembers nothing. Each project that needs a shim and has none gets one; each launch whose
outcome is known and not yet concluded is; what a dead process left in staging goes.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import sys
import threading

from agent.errors import AgentError, Conflict
from agent.model import AGENT_PROJECT
from agent.operations import canary
from agent.operations.agent import Agent, changing
from agent.operations.log_budget import keep_budget
from agent.operations.outcome import conclude
from agent.store import staging

INTERVAL_SECONDS = 2.0
#: So often, in scans, all logs are counted.
_BUDGET_SCANS = 5


def reconcile(agent: Agent) -> None:
    """One scan. A project that can't be looked at is named in the agent's log and does not hold up the others."""
    staging.sweep(agent.store)
    for project in agent.projects():
        try:
            handle = agent.handle(project)
            handle.persist_want()
            conclude(agent, handle)
            if not handle.is_alive:
                handle.see_to_it()
            if project == canary.CANARY:
                _clear_canary(agent)
        except (AgentError, OSError, ValueError) as error:
            sys.stderr.write(f"reconcile {project}: {error}\n")


def _clear_canary(agent: Agent) -> None:
    """One that no new agent is proving itself with: that one was killed. (A proof goes on record before its canary is there.)"""
    handle = agent.handle(AGENT_PROJECT)
    # whoever launches an agent clears up afterwards
    with contextlib.suppress(Conflict), changing(handle, "clear a canary", "the agent itself"):
        record = handle.record()
        successor = record.successor if record is not None else None
        if successor is None or successor.is_retiring:
            canary.clear(agent)


def _keep_budget(agent: Agent) -> None:
    try:
        keep_budget(agent)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"the budget for logs can't be kept: {error}\n")


def keep_reconciling(agent: Agent, stopped: threading.Event) -> None:
    """Scan now and every few seconds, at times that differ between the hosts of a fleet."""
    for number in itertools.count():
        if stopped.is_set():
            return
        reconcile(agent)
        if number % _BUDGET_SCANS == 0:
            _keep_budget(agent)
        stopped.wait(INTERVAL_SECONDS * random.uniform(0.8, 1.2))
