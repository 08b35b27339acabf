"""History: what ten thousand launches of one project cost the next one, as curves.

A thousand of its releases are kept, which is the most that a manifest can ask for.
"""

from __future__ import annotations

import json
import os
import time
from typing import Dict, List

from agent.host import clock, files
from agent.model import Release
from agent.store.layout import ProjectLayout, StoreLayout
from tests.bench import plot
from tests.bench.figure import Figure, quantile
from tests.bench.rows.launch import first_byte
from tests.bench.rows.scale import Costs, as_figures, median_milliseconds
from tests.bench.setting import FOREVER, Setting, checked, script
from tests.support.agent import AgentHost

_KEPT = 1000
_PROJECT = "old"


def measure(setting: Setting) -> List[Figure]:
    """Older releases are put into the store as a launch leaves them, and their lines into the history."""
    steps = (5, 50) if setting.quick else (10, 100, 1000, 10_000)
    costs: Costs = {}
    with setting.host() as host:
        layout = StoreLayout(host.store).project(_PROJECT)
        _launch(host, "first")
        there = 1
        for count in steps:
            for number in range(there, count):
                _add(layout, number)
            there = count
            for what, value in _costs(host, setting, count).items():
                costs.setdefault(what, []).append((count, value))
        checked(host.kill(_PROJECT, grace_seconds=0), 200)
    drawn = plot.write(setting.plots, "history", "What earlier launches cost the next one", "launches so far", costs)
    return as_figures(costs, f"after {', '.join(map(str, steps))} launches", f"drawn in {drawn}")


def _launch(host: AgentHost, salt: str) -> float:
    """Milliseconds to the first line of a release that is new."""
    path = script(host, f"echo first line of {salt}\n{FOREVER}", salt=salt, keep_releases=_KEPT)
    there = sum(os.path.getsize(f"{host.path('projects', _PROJECT, 'logs')}/{name}") for name in _segments(host))
    return first_byte(host, _PROJECT, path, there)[0]


def _segments(host: AgentHost) -> List[str]:
    return [name for name in files.names(host.path("projects", _PROJECT, "logs")) if name.endswith("00001.log")]


def _add(layout: ProjectLayout, number: int) -> None:
    """A release of years ago, so that it is the first to go, and what history has of it."""
    version = f"old-{number}"
    if number < _KEPT - 20:  # room for those that are launched here
        files.make_directory(layout.release(version))
        received_at = f"2020-01-01T00:00:00.{number:06d}Z"
        release = Release(layout.project, version, f"{number:064x}", 1234, ("/bin/true",), received_at=received_at)
        with open(layout.release_json(version), "w", encoding="ascii") as file:
            json.dump(release.to_json(), file)
    line = {"at": clock.timestamp(), "event": "launch", "version": version, "by": "bench", "ready": True, "reason": ""}
    files.append_line(layout.history, line, 4 << 20)


def _costs(host: AgentHost, setting: Setting, count: int) -> Dict[str, float]:
    firsts, calls = [], []
    for number in range(setting.times(5)):
        started = time.perf_counter()
        firsts.append(_launch(host, f"{count} {number}"))
        calls.append(1000 * (time.perf_counter() - started))
    return {
        "launch → first line, ms": quantile(firsts, 0.5),
        "whole launch call, 1 s of proving and pruning included, ms": quantile(calls, 0.5),
        "GET /project/<id>, ms": median_milliseconds(50, lambda: checked(host.request("GET", f"/project/{_PROJECT}"), 200)),
        "GET /project, ms": median_milliseconds(20, lambda: checked(host.request("GET", "/project"), 200)),
        "GET /project/<id>/history, ms": median_milliseconds(
            10, lambda: checked(host.request("GET", f"/project/{_PROJECT}/history"), 200)
        ),
    }
