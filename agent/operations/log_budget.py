"""The budget: what all logs of a store may take together, beside each project's own hard cap.

It remembers nothing: each look counts what is there. Whoever has most gives its oldest segment first, so one project's
flood costs its own past and not the others'. The segment that is being written is never taken.
"""

from __future__ import annotations

import contextlib
import heapq
import os
from typing import Dict, List, NamedTuple, Tuple

from agent.host import files
from agent.host.clock import timestamp
from agent.host.files import Space
from agent.operations.agent import Agent
from agent.store.layout import ProjectLayout
from agent.store.output import open_logs
from agent.store.segments import EVENTS_BYTES, segment_name, segment_numbers_of, streams_name

#: Unless it is configured: this share of the file system, and never more than so much.
_SHARE, _MOST_BYTES = 0.1, 10 << 30
#: What stays free beside the logs, as a share of the file system, and at most.
_FREE_SHARE, _FREE_BYTES = 0.02, 1 << 30


Segment = Tuple[int, int]


class _Held(NamedTuple):
    """What one project's segments take, and those that are closed, oldest first: (number, bytes)."""

    size: int
    layout: ProjectLayout
    closed: List[Segment]


def keep_budget(agent: Agent) -> int:
    """Remove oldest segments until all are within the budget; how many bytes went. OSError if the store can't be read."""
    held = [_held(agent.store.project(project)) for project in agent.projects()]
    excess = sum(one.size for one in held) - allowed_bytes(agent, sum(one.size for one in held))
    heap = [(-one.size, index) for index, one in enumerate(held) if one.closed]
    heapq.heapify(heap)
    taken: Dict[int, List[Segment]] = {}
    while excess > 0 and heap:
        size, index = heapq.heappop(heap)
        number, count = held[index].closed.pop(0)
        taken.setdefault(index, []).append((number, count))
        excess -= count
        if held[index].closed:
            heapq.heappush(heap, (size + count, index))
    return sum(_remove(held[index].layout, segments) for index, segments in taken.items())


def allowed_bytes(agent: Agent, used_bytes: int) -> int:
    """The budget, or less where the disk is nearly full: logs give way before anything else is refused."""
    space = files.free_space(agent.store.root)
    configured = (files.read_json(agent.store.config) or {}).get("log_budget")
    budget = int(configured) if configured else default_bytes(space)
    free = min(_FREE_BYTES, int(space.total_bytes * _FREE_SHARE))
    return max(0, min(budget, used_bytes + space.free_bytes - free))


def default_bytes(space: Space) -> int:
    """A tenth of the file system, at most 10 GiB."""
    return min(_MOST_BYTES, int(space.total_bytes * _SHARE))


def _held(layout: ProjectLayout) -> _Held:
    logs = open_logs(layout)
    if logs is None:
        return _Held(0, layout, [])
    try:
        segments = []
        for number in segment_numbers_of(os.listdir(logs)):
            with contextlib.suppress(FileNotFoundError):  # rotated away meanwhile
                found = os.stat(segment_name(number), dir_fd=logs, follow_symlinks=False)
                segments.append((number, found.st_blocks * 512))
        return _Held(sum(size for _, size in segments), layout, segments[:-1])
    finally:
        os.close(logs)


def _remove(layout: ProjectLayout, segments: List[Segment]) -> int:
    """Take them away and say so where the project's operator looks."""
    logs = open_logs(layout)
    if logs is None:
        return 0
    try:
        for number, _ in segments:
            for name in (segment_name(number), streams_name(number)):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=logs)
    finally:
        os.close(logs)
    size = sum(size for _, size in segments)
    line = {
        "at": timestamp(), "event": "removed", "from": segments[0][0], "to": segments[-1][0], "bytes": size,
        "reason": "all logs of this host together were over their budget (serve --log-budget)",
    }  # fmt: skip
    files.append_line(layout.events, line, EVENTS_BYTES)
    return size
