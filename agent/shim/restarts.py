"""The restart policy: how a run ended goes in, what happens next and why comes out. Pure.

Backoff doubles, never gives up for good, and starts over after a stable run (the pains are
supervisor#487, systemd#2416, systemd#43813: giving up dead, or never resetting).
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.model import ExitCause, Exited, RestartPolicy

#: Ends in a row, none after a stable run, from which on it is called a crash loop.
CRASH_LOOP = 5

RESTART, FINISH, GIVE_UP = "restart", "finish", "give_up"


@dataclass(frozen=True)
class Decision:
    """`failures` counts the ends in a row without a stable run, this one included."""

    action: str
    delay_seconds: float
    failures: int
    reason: str


def decide(policy: RestartPolicy, cause: ExitCause, ran_seconds: float, failures: int) -> Decision:
    """What follows a run that ended by itself after `ran_seconds`, with `failures` unstable ends before it."""
    clean = isinstance(cause, Exited) and cause.code == 0
    if policy.policy == "never" or (policy.policy == "on-failure" and clean):
        reason = f"{cause}; restart policy {policy.policy!r} leaves it at that"
        return Decision(FINISH if clean else GIVE_UP, 0.0, 0, reason)
    before = 0 if ran_seconds >= policy.reset_seconds else failures
    delay = backoff(policy, before)
    reason = f"{cause} after {ran_seconds:.1f} s; starting again in {delay:g} s"
    if before + 1 >= CRASH_LOOP:
        reason += f" (a crash loop: {before + 1} ends in a row, none after {policy.reset_seconds:g} s of running)"
    return Decision(RESTART, delay, before + 1, reason)


def backoff(policy: RestartPolicy, failures: int) -> float:
    """Seconds to wait after that many unstable ends: delay · 2ⁿ, at most the maximum."""
    doublings = min(failures, 64)  # 2.0**1075 overflows; the maximum is reached long before
    return float(min(policy.max_delay_seconds, policy.delay_seconds * 2.0**doublings))
