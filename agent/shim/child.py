"""Children that were not always ours: taking over what a dead shim left, and learning how it ended."""

from __future__ import annotations

import sys
import time
from typing import Optional

from agent.host import files, procfs
from agent.model import ExitCause, UnknownExit
from agent.shim import machine, tree
from agent.shim.journal import Journal
from agent.shim.record import Record
from agent.store.layout import ProjectLayout


def take_over(journal: Journal) -> None:
    """Go on where the last shim stopped: adopt the very process that it left, or put a lost run on record."""
    record = journal.record
    if record.state not in machine.ALIVE:
        return
    same_boot = record.boot_id == procfs.boot_id()
    if not same_boot or record.pid is None or (record.state == machine.STARTING and not is_alive(record)):
        reason = "its shim died before starting it" if same_boot else "the host went down"
        journal.remember_end(UnknownExit(reason), 0.0, by_itself=False)
        journal.note(state=machine.EXITED, pid=None, start_time=None, ended=None, stop=None, cgroup=None, explanation=reason)
        return
    # it was executed, or it would have ended with its shim
    journal.note(adopted=True, state=machine.RUNNING if record.state == machine.STARTING else record.state)
    journal.event("adopted", pid=record.pid)


def is_alive(record: Record) -> bool:
    """Whether the child on record lives."""
    return record.pid is not None and procfs.is_alive(record.pid, record.start_time or 0)


def end_of_adopted(journal: Journal, layout: ProjectLayout, pidfd: int, patience_seconds: float) -> Optional[ExitCause]:
    """How an adopted child ended; None while it lives, or while its status may still come from who reaps it."""
    record = journal.record
    if is_alive(record):
        return None
    status = tree.status_by_pidfd(pidfd) if pidfd >= 0 else None
    if status is None:
        status = _orphan_status(layout, record)
    if status is not None:
        return tree.cause_of(status)
    now = time.monotonic()
    if record.gone_clock is None:
        journal.publish(gone_clock=now)  # the next turn has to know
    elif now - record.gone_clock > patience_seconds:
        return UnknownExit("its shim had died, and this kernel tells the exit status to a parent only")
    return None


def leave_orphan_status(layout: ProjectLayout, pid: int, start_time: int, status: int) -> None:
    """Keep, for the adopting shim, the wait status that an ancestor learned as a subreaper. A disk that refuses costs it."""
    try:
        files.append_line(layout.orphan_exits, {"pid": pid, "start_time": start_time, "status": status}, 1 << 16)
    except OSError as error:
        sys.stderr.write(f"{layout.orphan_exits}: {error.strerror}\n")


def _orphan_status(layout: ProjectLayout, record: Record) -> Optional[int]:
    for line in files.read_lines(layout.orphan_exits):
        if (line.get("pid"), line.get("start_time")) == (record.pid, record.start_time):
            return int(line["status"])
    return None
