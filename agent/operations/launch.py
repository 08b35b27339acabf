"""Launch: an uploaded artifact becomes the running release, or everything stays as it was.

Each step is named in the reply with the seconds it took. The release's JSON commits it to the
store, the want commits the store to running it (and both to the disk), `current` commits to having run it well.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Optional, Sequence, Tuple

from agent import manifest as manifests
from agent.errors import AgentError, ArtifactFault, Conflict
from agent.host import clock, files, procfs
from agent.manifest import Manifest
from agent.model import AGENT_PROJECT, Release, parse_version
from agent.operations import canary, own, signatures, status
from agent.operations.agent import Agent, changing, forget_if_unused, volatile_warnings
from agent.operations.outcome import conclude, is_under_way, join, start
from agent.shim import machine
from agent.shim.handle import Handle
from agent.shim.record import Outcome, Record, read_want
from agent.store import artifacts, entrypoint, leftout, releases, staging
from agent.store.layout import ProjectLayout


@dataclass(frozen=True)
class Upload:
    """A whole artifact in `<store>/staging`, with its SHA-256."""

    path: str
    digest: str
    size_bytes: int


@dataclass(frozen=True)
class LaunchCall:
    """What a caller asked for. `started` is the monotonic time at which its first byte was looked at.

    `left_out`: the stretches that the upload lacks of the artifact; None when it is whole. `is_own`: the agent launches its
    canary, which nobody sends and nobody signs.
    """

    project: str
    version: Optional[str]
    sha256: Optional[str]
    manifest: Optional[bytes]
    upload: Upload
    received_from: str
    started: float
    force: bool = False
    left_out: Optional[Sequence[leftout.Stretch]] = None
    signature: Optional[str] = None
    is_own: bool = False


class Steps:
    """The steps of one launch: `[{"name", "seconds"}]`."""

    def __init__(self, started: float) -> None:
        self._last = started
        self.done: List[Dict[str, Any]] = []

    def finish(self, name: str) -> None:
        """The step of that name ended just now."""
        now = time.monotonic()
        self.done.append({"name": name, "seconds": round(now - self._last, 4)})
        self._last = now

    def add_done_by_shim(self, outcome: Optional[Outcome]) -> None:
        """The shim's own steps ended just now; what they leave of the time since the last step is called `start`."""
        theirs = list(outcome.steps) if outcome is not None else []
        self.finish("start")
        start = self.done.pop()
        start["seconds"] = max(0.0, round(start["seconds"] - sum(step["seconds"] for step in theirs), 4))
        at = next((index for index, step in enumerate(theirs) if step["name"] == "ready"), len(theirs))
        self.done += [*theirs[:at], start, *theirs[at:]]


def launch(agent: Agent, call: LaunchCall) -> Tuple[int, Dict[str, Any]]:
    """(201 | 200, reply). AgentError with `step` when it failed; the upload is gone in any case."""
    steps = Steps(call.started)
    steps.finish("receive")
    handle = agent.handle(call.project)
    try:
        if call.left_out is not None:
            call = replace(call, upload=_assemble(agent, handle.layout, call, call.left_out))
            steps.finish("assemble")
        _check_call(agent, call)
        if not call.is_own:
            by = signatures.signer(agent, call.project, call.version, call.upload.digest, call.signature)
            if by is not None:
                call = replace(call, received_from=f"{call.received_from}, signed by {by}")
        with changing(handle, "launch", call.received_from, create=True):
            try:
                with handle.shim_ahead():
                    return _launch(agent, handle, call, steps)
            finally:
                forget_if_unused(handle)
    except AgentError as error:
        error.members = {"project": call.project, "running": status.running(handle), **error.members}
        raise
    finally:
        files.remove_if_present(call.upload.path)


def _assemble(agent: Agent, layout: ProjectLayout, call: LaunchCall, left_out: Sequence[leftout.Stretch]) -> Upload:
    """The whole artifact in place of what came of it."""
    path = staging.new_path(agent.store, ".whole")
    try:
        upload = Upload(path, *leftout.assemble(layout, call.upload.path, left_out, path))
    except BaseException as error:
        files.remove_if_present(path)
        if isinstance(error, AgentError):
            error.members = {"project": call.project, "step": "assemble", **error.members}
        raise
    finally:
        files.remove_if_present(call.upload.path)
    return upload


def _check_call(agent: Agent, call: LaunchCall) -> None:
    bad = own.quarantined(agent.store).get(call.upload.digest) if call.project == AGENT_PROJECT and not call.force else None
    if bad is not None:
        raise Conflict(
            f"This release of the agent, {bad['version']}, failed on this host at {bad['at']}: {bad['reason']}.",
            "Send another one, or try it again: force=true in the call, --force on the command line.",
            project=call.project, quarantined=bad,
        )  # fmt: skip
    if call.sha256 is not None and call.sha256 != call.upload.digest:
        raise ArtifactFault(
            f"sha256: {call.sha256} was announced and {call.upload.digest} arrived ({call.upload.size_bytes} bytes).",
            "The artifact changed on its way, or another one was built; send it again.", project=call.project, step="digest",
        )  # fmt: skip


def _launch(agent: Agent, handle: Handle, call: LaunchCall, steps: Steps) -> Tuple[int, Dict[str, Any]]:
    release = releases.find(handle.layout, call.upload.digest, call.version)
    is_new = release is None
    if release is None:
        release = _make_release(agent, handle.layout, call, steps)
    conclude(agent, handle)  # what the last launch came to decides what this one can go back to
    want, record = handle.want(), handle.record()
    is_wanted = want is not None and want.up and want.version == release.version
    if want is not None and is_wanted and call.project != AGENT_PROJECT and is_under_way(handle, want, record):
        record = join(agent, handle, want, call.received_from)
        steps.add_done_by_shim(record.outcome)
        return 201, _reply("LaunchSuccessful", release, record, want.fallback, steps)
    if record is not None and is_wanted and _runs_well(record, release):
        return 200, _reply("AlreadyRunning", release, record, None, steps)
    fallback = record.version if want is not None and want.up and record is not None and _may_run(handle.layout, record) else None
    try:
        record = start(agent, call.project, release.version, fallback, call.received_from, "launch")
    except (AgentError, OSError) as error:
        wanted = handle.want()
        if is_new and (isinstance(error, ArtifactFault) or wanted is None or wanted.version != release.version):
            releases.remove(handle.layout, release.version)
        if call.project == AGENT_PROJECT:
            canary.clear(agent)
        raise
    steps.add_done_by_shim(record.outcome)
    keep = int(release.manifest.get("keep_releases", 5))
    try:
        releases.prune(handle.layout, keep, [release.version, fallback, *spared(agent, handle)])
    except OSError as error:  # the next launch tries again
        sys.stderr.write(f"{call.project}: old releases can't be removed: {error}\n")
    reply = _reply("LaunchSuccessful", release, record, fallback, steps)
    return 201, {**reply, "warnings": [*reply["warnings"], *volatile_warnings(handle)]}


def spared(agent: Agent, handle: Handle) -> List[Optional[str]]:
    """The releases that something runs from or is to: on record, wanted, current. What was gone back to is one of them.

    Those of the agent that are in quarantine stay, too: whoever asks why finds what failed.
    """
    want, record = handle.want(), handle.record()
    versions = [releases.current(handle.layout)]
    if want is not None:
        versions += [want.version, want.fallback]
    if record is not None:
        versions += [record.version, record.successor.version if record.successor is not None else None]
    if handle.layout.project == AGENT_PROJECT:
        versions += own.quarantined_versions(agent.store)
    return versions


def _runs_well(record: Record, release: Release) -> bool:
    """By the record, and by the kernel: a run that has just ended is on record until its shim has looked."""
    is_up = record.version == release.version and record.state in (machine.RUNNING, machine.READY)
    return is_up and record.pid is not None and procfs.is_alive(record.pid, record.start_time or 0)


def _may_run(layout: ProjectLayout, record: Record) -> bool:
    return record.version is not None and record.version == releases.current(layout)


def _make_release(agent: Agent, layout: ProjectLayout, call: LaunchCall, steps: Steps) -> Release:
    unpacked = staging.new_path(agent.store)
    os.mkdir(unpacked, 0o700)
    step = "unpack"
    try:
        artifacts.unpack(call.upload.path, unpacked, call.project, agent.unpacker.extract)
        if call.project == AGENT_PROJECT:
            own.read_own_manifest(f"{unpacked}/{own.BUNDLE}")
        step = "manifest"
        manifest = manifests.parse(call.manifest) if call.manifest else artifacts.read_manifest(unpacked, call.project)
        version = parse_version(call.version or manifest.version or call.upload.digest[:12])
        _refuse_taken(layout, version, call)
        steps.finish("unpack")
        os.chmod(unpacked, 0o755)
        releases.place(layout, version, unpacked)
    except AgentError as error:
        error.members = {"project": call.project, "step": step, **error.members}
        raise
    finally:
        staging.remove(unpacked)
    try:
        release, last = _describe(agent, layout, version, manifest, call), read_want(layout)
        release = replace(release, generation=last.generation if last is not None else 0)
        releases.draft(layout, release)
    except Exception as error:
        releases.remove(layout, version)
        if isinstance(error, ArtifactFault):
            step = "manifest" if "field" in error.members else "command"
            error.members.update({"project": call.project, "version": version, "step": step})
        raise
    steps.finish("commit")
    return release


def _refuse_taken(layout: ProjectLayout, version: str, call: LaunchCall) -> None:
    taken = releases.read(layout, version)
    if taken is not None and taken.digest != call.upload.digest:
        raise Conflict(
            f"version: {call.project} {version} is already here with other bytes (sha256 {taken.digest}).",
            "A version names one artifact for ever: give this one another version.", project=call.project, version=version,
            step="commit",
        )  # fmt: skip


def _describe(agent: Agent, layout: ProjectLayout, version: str, manifest: Manifest, call: LaunchCall) -> Release:
    directory = layout.release(version)
    if call.project == AGENT_PROJECT:
        bundle = f"{directory}/{own.BUNDLE}"
        own.install_bundle(bundle, directory)
        document = own.read_own_manifest(bundle)
        return own.describe(agent.store, version, call.upload.digest, call.upload.size_bytes, document, call.received_from)
    if manifest.migrations is not None and not os.path.isdir(f"{directory}/{manifest.migrations.path}"):
        raise ArtifactFault(
            f"manifest: migrations.path: there is no folder {manifest.migrations.path!r} in the artifact.",
            "Add it, or correct the path.", field="migrations.path",
        )  # fmt: skip
    return Release(
        project=call.project,
        version=version,
        digest=call.upload.digest,
        size_bytes=call.upload.size_bytes,
        command=entrypoint.resolve(directory, call.project, manifest),
        env={**entrypoint.read_dotenv(directory), **manifest.env},
        stop=manifest.stop,
        restart=manifest.restart,
        logs=manifest.logs,
        sockets=manifest.sockets,
        readiness=manifest.readiness,
        before_launch=manifest.before_launch,
        migrations=manifest.migrations,
        manifest=manifest.document,
        warnings=manifest.warnings,
        secrets=manifest.secrets,
        user=manifest.user,
        limits=manifest.limits,
        new_privileges=manifest.new_privileges,
        received_at=clock.timestamp(),
        received_from=call.received_from,
    )


def _reply(status: str, release: Release, record: Record, replaced: Optional[str], steps: Steps) -> Dict[str, Any]:
    return {
        "status": status,
        "project": release.project,
        "version": release.version,
        "digest": release.digest,
        "pid": record.pid,
        "state": record.state,
        "replaced": replaced,
        "warnings": list(release.warnings),
        "steps": steps.done,
    }
