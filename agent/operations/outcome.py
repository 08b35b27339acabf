"""What a launch comes to: shared by all that start a release, and by the reconcile loop.

The shim carries a launch out and records its outcome; the agent only waits for it. An agent that dies
meanwhile changes nothing: its successor concludes from the same files.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import List, Optional

from agent.errors import AgentError, ArtifactFault, Busy, Conflict
from agent.host import locks, standin
from agent.model import AGENT_PROJECT, Release
from agent.operations import own
from agent.operations.agent import Agent, remember
from agent.operations.logs import run_output
from agent.shim import rights, sockets
from agent.shim.handle import Handle
from agent.shim.record import Outcome, Record, Want, settle_want, write_want
from agent.store import releases

#: Beyond the old run's grace period and the new one's proof.
_SLACK_SECONDS = 20.0
_TAIL_LINES = 20


def start(agent: Agent, project: str, version: str, fallback: Optional[str], by: str, event: str) -> Record:
    """Run this release under a new generation and wait for the outcome.

    ArtifactFault when it did not become ready (the fallback, if any, runs again), Conflict when
    another call superseded this one, Busy when the host did not get it done in time or somebody else ended it.
    """
    handle = agent.handle(project)
    release = releases.read(handle.layout, version)
    if release is not None:
        _require(release, handle)
    before = handle.record()
    replaced: List[Optional[Want]] = []

    def change(last: Optional[Want]) -> Want:
        replaced.append(last)
        return Want(True, 0, version, fallback, prepare=event != "restart", by=by)

    want = handle.change_want(change)
    try:
        return _await(agent, handle, want, before, by, event)
    except Busy:
        record = handle.record()
        if project != AGENT_PROJECT and (record is None or record.generation < want.generation):
            handle.take_back(want, replaced[-1])  # nobody has begun with it, and then nobody is to
        raise


def is_under_way(handle: Handle, want: Want, record: Optional[Record]) -> bool:
    """Whether the shim is at a launch that nobody waits for any more: the agent that began it died, or its time was over."""
    outcome = record.outcome if record is not None else None
    is_decided = outcome is not None and outcome.generation == want.generation
    return want.up and not want.concluded and not is_decided and handle.is_alive


def join(agent: Agent, handle: Handle, want: Want, by: str) -> Record:
    """Wait for the outcome of a launch that is under way, as `start` does."""
    return _await(agent, handle, want, handle.record(), by, "launch")


def _await(agent: Agent, handle: Handle, want: Want, before: Optional[Record], by: str, event: str) -> Record:
    project, version, fallback = handle.layout.project, str(want.version), want.fallback
    record = handle.wait(lambda record: _is_concluded(record, want), _patience(handle, before, version))
    outcome = record.outcome if record is not None else None
    if record is None:
        record = handle.record()
        begun = record is not None and record.generation >= want.generation
        raise Busy(
            f"{project} {version} has not {'become ready yet' if begun else 'been begun with'}: {_explanation(handle)}.",
            ("The host goes on with it; the same launch, sent again, waits for its end. " if begun else
             "It is called off: the host may be out of processes. ") + "GET /project/<id> shows how it stands.",
            10, project=project,
        )  # fmt: skip
    if record.generation > want.generation or outcome is None or outcome.generation != want.generation:
        raise _cancelled(handle, project, version)
    conclude_later_if_need_be(agent, handle)
    now = handle.want()
    if outcome.ready and now is not None and not now.up:  # killed before it was concluded; it is what a restart brings back
        releases.point_current(handle.layout, version)
    remember(handle, event, version=version, by=by, ready=outcome.ready, reason=outcome.reason)
    if not outcome.ready:
        raise _failure(handle, project, outcome, fallback)
    return record


def _cancelled(handle: Handle, project: str, version: str) -> Conflict:
    now = handle.want()
    what = "another call" if now is None else f"a {'launch' if now.up else 'kill'} by {now.by or 'another call'}"
    return Conflict(
        f"{project}: {what} ended this launch of {version}.", "GET /project/<id> shows what is wanted now.",
        project=project, version=version, step="cancelled",
    )  # fmt: skip


def _require(release: Release, handle: Handle) -> None:
    try:
        rights.require(release, handle.layout)
        if release.project != AGENT_PROJECT:
            sockets.require(release, handle.layout, handle.record())
    except AgentError as error:
        error.members.update({"project": release.project, "version": release.version})
        raise


def _is_concluded(record: Record, want: Want) -> bool:
    if record.generation != want.generation:
        return record.generation > want.generation
    outcome = record.outcome
    if outcome is None or outcome.generation != want.generation:
        return False
    return outcome.ready or record.settled or record.version == want.fallback and record.pid is not None


def _patience(handle: Handle, before: Optional[Record], version: str) -> float:
    """For how long a launch may be under way: both runs' grace periods, and all that the new release may take."""
    running = releases.read(handle.layout, before.version) if before and before.version else None
    release = releases.read(handle.layout, version)
    seconds = _SLACK_SECONDS + 2 * (running.stop.grace_seconds if running else 0.0)
    if release is None:
        return seconds
    if release.readiness is not None:
        seconds += release.readiness.timeout_seconds + release.stop.grace_seconds
    if release.migrations is not None:
        seconds += release.migrations.timeout_seconds
    return seconds + sum(hook.timeout_seconds for hook in release.before_launch)


def _explanation(handle: Handle) -> str:
    record = handle.record()
    return record.explanation if record is not None else "its shim has not said anything"


def conclude_later_if_need_be(agent: Agent, handle: Handle) -> None:
    """As `conclude`; what a disk refuses, the reconcile loop does once it can be done."""
    try:
        conclude(agent, handle)
    except OSError as error:
        if error.errno not in standin.REFUSALS:
            raise
        sys.stderr.write(f"{handle.layout.project}: {error}; the outcome is concluded later\n")


def conclude(agent: Agent, handle: Handle) -> None:
    """Write the outcome of the wanted generation into the store: `current`, or the want as it was before.

    A release of the agent itself that failed is quarantined, so that the next start doesn't try it again.
    """
    with locks.hold(handle.layout.want_lock):
        settle_want(handle.layout)  # of an agent that died in the middle of it
        want, record = handle.want(), handle.record()
        outcome = record.outcome if record is not None else None
        if want is None or not want.up or want.concluded or outcome is None or outcome.generation != want.generation:
            return
        if outcome.version != want.version:
            return  # concluded before: the want is the fallback's already
        if handle.layout.project == AGENT_PROJECT:
            _judge(agent, handle, want, outcome)
        if outcome.ready:
            releases.point_current(handle.layout, outcome.version)
            return
        if want.fallback is not None:
            if releases.current(handle.layout) == outcome.version:  # reverted in its probation
                releases.point_current(handle.layout, want.fallback)
            write_want(handle.layout, replace(want, version=want.fallback, fallback=None, concluded=True))
        else:
            write_want(handle.layout, replace(want, up=False, concluded=True))


def _judge(agent: Agent, handle: Handle, want: Want, outcome: Outcome) -> None:
    """A restart that failed says nothing of a release that was good before, and neither does a kill from outside."""
    release = releases.read(handle.layout, outcome.version)
    if release is None:
        return
    if outcome.ready:
        own.acquit(agent.store, release.digest)
    elif not outcome.blameless and outcome.version != want.fallback:
        own.quarantine(agent.store, release.digest, outcome.version, outcome.reason)


def _failure(handle: Handle, project: str, outcome: Outcome, fallback: Optional[str]) -> AgentError:
    output = run_output(handle.layout, outcome.run) if outcome.output is None else outcome.output.encode()
    tail = output.splitlines()[-_TAIL_LINES:]
    record = handle.record()
    is_untouched = record is not None and (outcome.run == 0 or record.run < outcome.run)  # else it was started again
    running = {"version": fallback, "pid": record.pid, "state": record.state} if fallback and record is not None else None
    consequence = f"{fallback} runs {'on' if is_untouched else 'again'}" if fallback else "nothing of it runs"
    if outcome.blameless:
        return Busy(
            f"{project} {outcome.version} {outcome.reason}; {consequence}.",
            "Somebody else ended it (or the kernel, for memory), which says nothing of the release: send the call again.", 5,
            project=project, version=outcome.version, step=outcome.step, exit_cause=outcome.exit_cause, running=running,
        )  # fmt: skip
    hint = "log_tail shows its last output; mend the artifact and launch it again."
    if outcome.step == "ready" and project != AGENT_PROJECT:
        hint += ' A program that is meant to end needs "restart": {"policy": "never"} in its anthill.json.'
    started = "" if outcome.step not in ("before_launch", "migrations") else "was not started: "
    return ArtifactFault(
        f"{project} {outcome.version} {started}{outcome.reason}; {consequence}.", hint,
        project=project, version=outcome.version, step=outcome.step, exit_cause=outcome.exit_cause, readiness=outcome.readiness,
        log_tail=[line.decode(errors="replace") for line in tail], running=running, steps=list(outcome.steps),
    )  # fmt: skip
