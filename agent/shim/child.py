"""The run's first process, as the shim sees it: its own child, or one adopted from a shim that died."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Optional

from agent.host import clock, files, procfs, signals
from agent.model import ExitCause, UnknownExit
from agent.shim import machine, tree
from agent.shim.journal import Journal
from agent.store.layout import ProjectLayout

#: How long an adopted child's exit status may take to reach us: somebody else has to reap it first.
_STATUS_SECONDS = 0.5


@dataclass
class Child:
    """`started` is on the monotonic clock; `ended` is the cause once it is known to be gone."""

    pid: int
    start_time: int
    started: float
    ended: Optional[ExitCause] = None
    pidfd: Optional[int] = None
    adopted: bool = False
    _gone_since: Optional[float] = None

    @classmethod
    def adopt(cls, pid: int, start_time: int, ran_seconds: float) -> "Child":
        """Take over the process of that identity, alive or not."""
        pidfd = signals.open_pidfd(pid, start_time)
        return cls(pid, start_time, time.monotonic() - ran_seconds, pidfd=pidfd, adopted=True)

    def watch(self, layout: ProjectLayout) -> None:
        """Notice the end of an adopted child and find out how it ended (nobody sends us SIGCHLD for it)."""
        if not self.adopted or self.ended is not None or procfs.is_alive(self.pid, self.start_time):
            return
        self._gone_since = self._gone_since or time.monotonic()
        status = tree.status_by_pidfd(self.pidfd) if self.pidfd is not None else None
        if status is None:
            status = _orphan_status(layout, self.pid, self.start_time)
        if status is not None:
            self.ended = tree.cause_of(status)
        elif time.monotonic() - self._gone_since > _STATUS_SECONDS:
            self.ended = UnknownExit("its shim had died, and this kernel tells the exit status to a parent only")
        if self.ended is not None and self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None

    @property
    def awaits_status(self) -> bool:
        """It is gone, and its exit status may still come."""
        return self._gone_since is not None and self.ended is None


def take_over(journal: Journal) -> Optional[Child]:
    """After another shim's death the very process that it left; None, with the run's end on record, after a reboot."""
    record = journal.record
    same_boot = record.boot_id == procfs.boot_id()
    alive = same_boot and record.pid is not None and procfs.is_alive(record.pid, record.start_time or 0)
    if not same_boot or record.pid is None or (record.state == machine.STARTING and not alive):
        reason = "its shim died before starting it" if same_boot else "the host went down"
        journal.remember_end(UnknownExit(reason), 0.0, by_itself=False)
        journal.note(state=machine.EXITED, pid=None, start_time=None, cgroup=None, explanation=reason)
        return None
    # a stop under way is begun anew: how much of the grace period was over, only the dead shim knew
    journal.note(adopted=True, state=machine.READY if record.state == machine.READY else machine.RUNNING)
    journal.event("adopted", pid=record.pid)
    ran = time.time() - clock.from_timestamp(record.started_at) if record.started_at else 0.0
    return Child.adopt(record.pid, record.start_time or 0, max(0.0, ran))


def leave_orphan_status(layout: ProjectLayout, pid: int, start_time: int, status: int) -> None:
    """Keep, for the adopting shim, the wait status that an ancestor learned as a subreaper."""
    files.append_line(layout.orphan_exits, {"pid": pid, "start_time": start_time, "status": status}, 1 << 16)


def _orphan_status(layout: ProjectLayout, pid: int, start_time: int) -> Optional[int]:
    for line in files.read_lines(layout.orphan_exits):
        if (line.get("pid"), line.get("start_time")) == (pid, start_time):
            return int(line["status"])
    return None
