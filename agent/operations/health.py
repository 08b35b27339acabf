"""Health: whether this host could take a launch right now."""

from __future__ import annotations

import os
from typing import Any, Dict, Sequence, Tuple

from agent.build import own_build
from agent.host import clock, files
from agent.host.files import Space
from agent.operations.agent import Agent
from agent.shim.handle import Handle
from agent.shim.record import needs_shim
from agent.store import keys, limits, staging


def health(agent: Agent) -> Tuple[int, Dict[str, Any]]:
    """(200 | 503, what was looked at): the store can be written, its disk has room, every project that
    needs a shim has one, the admin's key can be read."""
    handles = [agent.handle(project) for project in agent.projects()]
    space, build = files.free_space(agent.store.root), own_build()
    found = {"store": _of_store(agent), "disk": _of_disk(space), "shims": _of_shims(handles), "keys": _of_keys(agent)}
    problems = [problem for problem in found.values() if problem]
    return (503 if problems else 200), {
        "healthy": not problems,
        "problems": problems,
        "checks": {name: not problem for name, problem in found.items()},
        "version": build.version,
        "digest": build.digest,
        "agent_started_at": clock.timestamp(agent.started_at),
        "projects": len(handles),
        "free_bytes": space.free_bytes,
        "reserve_bytes": limits.reserve_bytes(space),
        "free_inodes": space.free_inodes,
    }


def _of_store(agent: Agent) -> str:
    path = staging.new_path(agent.store)
    try:
        files.write_atomically(path, b"", durable=True)
        os.unlink(path)
    except OSError as error:
        return f"the store can't be written: {path}: {error.strerror}"
    return ""


def _of_disk(space: Space) -> str:
    reserve = limits.reserve_bytes(space)
    if space.free_bytes < reserve:
        return (
            f"the store's disk has {space.free_bytes} bytes free; below {reserve} nothing is launched: purge what is not needed"
        )
    if space.total_inodes and space.free_inodes < limits.DEFAULT.reserve_inodes:
        return f"the store's file system has {space.free_inodes} inodes left: remove files that are not needed"
    return ""


def _of_keys(agent: Agent) -> str:
    trouble = keys.trouble(agent.store)
    return f"{trouble.detail} {trouble.hint}" if trouble is not None else ""


def _of_shims(handles: Sequence[Handle]) -> str:
    try:
        lacking = [one for one in handles if needs_shim(one.want(), one.record()) and not one.is_alive]
    except ValueError as error:
        return f"what is wanted of a project can't be read, and status tells of which: {error}"
    return f"no shim yet for: {', '.join(one.layout.project for one in lacking)}" if lacking else ""
