"""What happens in a new release before it replaces the old one: its hooks, then its migrations. The work of an errand.

It tells `{"steps": […], "done": True}` at its end, with `failure` (`step`, `reason`, `exit_cause`, `output`) if one failed.
Whoever interrupts it (a kill, a reboot, a power cut) makes it begin again: hooks run at least once, migrations once.
"""

from __future__ import annotations

import time
from typing import Any, Dict, List, Optional

from agent.errors import ArtifactFault
from agent.host import clock, files
from agent.model import Exited, Hook, Release, cause_to_json
from agent.shim import migrations
from agent.shim.command import run_to_end
from agent.shim.errand import Tell
from agent.store.layout import ProjectLayout
from agent.store.segments import EVENTS_BYTES

#: Of each step's output that is kept for the reply.
_OUTPUT_CHARACTERS = 2000


def prepare(release: Release, layout: ProjectLayout, output: int, tell: Tell) -> None:
    """Hooks, then migrations; the first failure ends it. `output` is the project's own, where all that they print goes."""
    for directory in (layout.data, layout.secrets):
        files.make_directory(directory)
    steps: List[Dict[str, Any]] = []
    failure: Optional[Dict[str, Any]] = None
    try:
        for hook in release.before_launch:
            failure = _run_hook(release, layout, hook, output, steps)
            if failure is not None:
                break
        else:
            _migrate(release, layout, output, steps)
    except migrations.Refused as error:
        failure = {"step": "migrations", "reason": f"migration failed: {error}"}
    except (OSError, ArtifactFault) as error:
        failure = {"step": "before_launch", "reason": f"its preparation failed: {error}"}
    tell({"done": True, "steps": steps, "failure": failure})


def _run_hook(
    release: Release, layout: ProjectLayout, hook: Hook, output: int, steps: List[Dict[str, Any]]
) -> Optional[Dict[str, Any]]:  # fmt: skip
    ran = run_to_end(release, layout, hook.command, hook.timeout_seconds, output)
    printed = ran.output.decode(errors="replace")[-_OUTPUT_CHARACTERS:]
    cause = cause_to_json(ran.cause) if ran.cause is not None else None
    step = {"name": "before_launch", "seconds": round(ran.seconds, 4), "command": str(hook)}
    steps.append({**step, "output": printed})
    line = {"at": clock.timestamp(), "event": "hook", "version": release.version, **step, "exit_cause": cause, "left": ran.left}
    files.append_line(layout.events, line, EVENTS_BYTES)
    if ran.cause == Exited(0):
        return None
    how = f"was not done within {hook.timeout_seconds:g} s" if ran.cause is None else str(ran.cause)
    return {"step": "before_launch", "reason": f"hook {str(hook)!r} {how}", "exit_cause": cause, "output": printed}


def _migrate(release: Release, layout: ProjectLayout, output: int, steps: List[Dict[str, Any]]) -> None:
    if release.migrations is None:
        return
    began = time.monotonic()
    applied = migrations.apply(release, layout, release.migrations, output)
    steps.append({"name": "migrations", "seconds": round(time.monotonic() - began, 4), "applied": applied})
    if applied:
        line = {"at": clock.timestamp(), "event": "migrated", "version": release.version, "applied": applied}
        files.append_line(layout.events, line, EVENTS_BYTES)
