"""Health: whether this host could take a launch right now."""

from __future__ import annotations

import os
from typing import Any, Dict, Tuple

from agent import __version__
from agent.host import clock, files
from agent.operations.agent import Agent
from agent.shim.record import needs_shim
from agent.store import staging


def health(agent: Agent) -> Tuple[int, Dict[str, Any]]:
    """(200 | 503, what was looked at): the store can be written, and every project that needs a shim has one."""
    problems = []
    path = staging.new_path(agent.store)
    try:
        files.write_atomically(path, b"", durable=True)
        os.unlink(path)
    except OSError as error:
        problems.append(f"the store can't be written: {path}: {error.strerror}")
    handles = [agent.handle(project) for project in agent.projects()]
    without = [h.layout.project for h in handles if needs_shim(h.want(), h.record()) and not h.is_alive]
    if without:
        problems.append(f"no shim yet for: {', '.join(without)}")
    space = files.free_space(agent.store.root)
    return (503 if problems else 200), {
        "healthy": not problems,
        "problems": problems,
        "version": __version__,
        "agent_started_at": clock.timestamp(agent.started_at),
        "projects": len(handles),
        "free_bytes": space.free_bytes,
        "free_inodes": space.free_inodes,
    }
