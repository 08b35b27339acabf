"""Kill: nothing of the project is left alive, and it stays down until it is launched again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, Optional

from agent.errors import Busy, Conflict
from agent.model import AGENT_PROJECT, StopPolicy
from agent.operations.agent import Agent, bury, changing, remember, unknown, volatile_warnings
from agent.shim.handle import Handle
from agent.shim.record import Record, Want, needs_shim
from agent.store import releases

#: Beyond the grace period: what SIGKILL, and a shim that has to be started for it, may take.
_SLACK_SECONDS = 10.0


def kill(
    agent: Agent, project: str, grace_seconds: Optional[float] = None, purge: bool = False, by: str = ""
) -> Dict[str, Any]:  # fmt: skip
    """The reply with every pid that was ended. NotFound, Conflict for the agent itself, Busy naming survivors."""
    try:
        return _kill(agent, project, grace_seconds, purge, by)
    except FileNotFoundError:
        if agent.handle(project).want() is not None:
            raise
        raise unknown(project) from None  # another call purged it meanwhile


def _kill(agent: Agent, project: str, grace_seconds: Optional[float], purge: bool, by: str) -> Dict[str, Any]:
    if project == AGENT_PROJECT:
        raise Conflict(
            "The agent does not kill itself: nobody could start it again over HTTP.",
            "Launch a new release of it, POST /project/ant-host-agent/restart, or run 'ant-host-agent.pyz stop' on the host.",
            project=project,
        )  # fmt: skip
    handle = agent.known(project)
    want, record = handle.want(), handle.record()
    was_down = record is not None and not needs_shim(want, record)
    if was_down and want is not None and not want.up:
        handle.persist_want()  # the call that made it so may have died before it was safe from a power cut
        reply: Dict[str, Any] = {"status": "NothingToKill", "project": project, "killed": [], "survivors": []}
    else:
        ended = _end(handle, grace_seconds, by)
        status = "NothingToKill" if was_down else "Successful"
        reply = {"status": status, "project": project, "killed": list(ended.killed), "survivors": []}
        if _is_launching(want, record):
            reply["cancelled"] = want.version if want is not None else None
        remember(handle, "kill", by=by, killed=len(ended.killed))
    warnings = volatile_warnings(handle)
    if warnings:
        reply["warnings"] = warnings
    if purge:
        _purge(handle, by)
    return reply


def _is_launching(want: Optional[Want], record: Optional[Record]) -> bool:
    """Whether the launch of that want has no outcome yet."""
    outcome = record.outcome if record is not None else None
    return want is not None and want.up and (outcome is None or outcome.generation != want.generation)


def _end(handle: Handle, grace_seconds: Optional[float], by: str) -> Record:
    project = handle.layout.project
    want = handle.change_want(lambda last: _down(project, last, grace_seconds, by))
    seconds = (_grace_seconds(handle) if grace_seconds is None else grace_seconds) + _SLACK_SECONDS
    ended = handle.wait(lambda record: _is_ended(record, want), seconds)
    if ended is None:
        record = handle.record()
        survivors = list(record.survivors) if record is not None else []
        raise Busy(
            f"{project} was told to end and is not gone after {seconds:g} s.",
            "A process in uninterruptible sleep (state D) ends when its I/O does; the host goes on trying.", 10,
            project=project, survivors=survivors,
        )  # fmt: skip
    return ended


def _is_ended(record: Record, want: Want) -> bool:
    """A shim that is about a later want has ended what ran under this one, and may have started the next."""
    return record.generation > want.generation or (record.generation == want.generation and record.settled)


def _down(project: str, last: Optional[Want], grace_seconds: Optional[float], by: str) -> Want:
    if last is None:
        raise unknown(project)  # another call purged it meanwhile, and a third is launching it
    return replace(last, up=False, fallback=None, grace_seconds=grace_seconds, by=by)


def _grace_seconds(handle: Handle) -> float:
    record = handle.record()
    release = releases.read(handle.layout, record.version) if record is not None and record.version else None
    return (release.stop if release else StopPolicy()).grace_seconds


def _purge(handle: Handle, by: str) -> None:
    """Delete releases, logs and data."""
    with changing(handle, "purge", by):
        if not bury(handle, lambda: not _is_up(handle)):
            raise Conflict(
                f"{handle.layout.project} was killed and launched again before it could be purged.", "Send the purge again.",
                project=handle.layout.project,
            )  # fmt: skip


def _is_up(handle: Handle) -> bool:
    want = handle.want()
    return want is not None and want.up
