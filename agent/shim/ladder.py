"""The kill ladder: stop signal → grace period → SIGKILL, again and again → an empty tree.

Every process that was there is on the list with the last signal it got. New processes of the
grace period get no stop signal: they may be what a clean end needs.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Tuple

from agent.host import procfs, signals
from agent.host.procfs import Process
from agent.model import signal_name
from agent.shim.record import Stop
from agent.shim.tree import Tree

#: Between two rounds of SIGKILL.
ROUND_SECONDS = 0.02
#: Seconds after the first SIGKILL from which on a process counts as a survivor (uninterruptible sleep).
SURVIVOR_SECONDS = 5.0


def begin(tree: Tree, reason: str, number: int, grace_seconds: float, now: float) -> Stop:
    """Send the stop signal to all that is there."""
    members = tree.members()
    stop = Stop(reason, now + grace_seconds, _listed((), members, number))
    for process in members:
        signals.send(process.pid, process.start_time, number)
    return stop


def pursue(tree: Tree, stop: Stop, now: float) -> Tuple[Stop, List[Dict[str, Any]]]:
    """Once the grace period is over, SIGKILL all that is there; the stop as it is now, and the survivors."""
    if now < stop.deadline:
        return stop, []
    left = tree.end_now()
    stop = Stop(stop.reason, stop.deadline, _listed(stop.killed, left, signals.SIGKILL))
    if now < stop.deadline + SURVIVOR_SECONDS:
        return stop, []
    pids = {process.pid for process in left}
    return stop, [entry for entry in stop.killed if entry["pid"] in pids]


def end(tree: Tree) -> Tuple[Dict[str, Any], ...]:
    """SIGKILL all that is there, at once."""
    killed = _listed((), tree.members(), signals.SIGKILL)
    tree.end_now()
    return killed


def due(stop: Stop, now: float) -> float:
    """When `pursue` has something to do next (monotonic clock)."""
    return max(now + ROUND_SECONDS, stop.deadline)


def _listed(known: Iterable[Dict[str, Any]], members: Iterable[Process], number: int) -> Tuple[Dict[str, Any], ...]:
    entries = {entry["pid"]: entry for entry in known}
    for process in members:
        command = entries[process.pid]["command"] if process.pid in entries else procfs.command(process.pid)
        entries[process.pid] = {"pid": process.pid, "command": command, "signal": signal_name(number)}
    return tuple(entries.values())
