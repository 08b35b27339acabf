"""When a new agent is taken back. The dumbest part of an upgrade, on purpose: it must work when all else does not.

A release that ends by itself, or stops answering, within its probation is reverted to the one before
it. A SIGKILL or SIGTERM comes from outside and proves nothing, unless it keeps coming (as the OOM killer does).
"""

from __future__ import annotations

from typing import Optional

from agent.model import ExitCause, Signaled
from agent.shim.record import Record, Want

PROBATION_SECONDS = 60.0
_FROM_OUTSIDE = (9, 15)
_OUTSIDE_KILLS = 3


def is_from_outside(cause: ExitCause) -> bool:
    """Whether somebody else ended it: an operator, or the kernel for want of memory."""
    return isinstance(cause, Signaled) and cause.signal in _FROM_OUTSIDE


def reason_to_revert(want: Optional[Want], record: Record, cause: ExitCause, now: float) -> Optional[str]:
    """Why the release on record, whose run just ended, is reverted; None when it may be started again."""
    if want is None or want.fallback is None or want.fallback == record.version or now >= record.probation_clock:
        return None
    if record.hung:
        return "stopped answering within its probation"
    if is_from_outside(cause) and record.failures + 1 < _OUTSIDE_KILLS:
        return None
    return f"{cause} within its probation"
