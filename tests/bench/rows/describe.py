"""Describe: the status of a thousand projects in one call, and how soon a follower has a line."""

from __future__ import annotations

import http.client
import json
import os
import time
from typing import List

from agent.host import clock
from agent.model import Release
from agent.shim.record import Outcome, Record, Want, write_record, write_want
from agent.store.layout import StoreLayout
from tests.bench.figure import Figure
from tests.bench.setting import FOREVER, Setting, checked, script
from tests.support.agent import AgentHost

_PROJECTS = 1000
_CAUSE = {"kind": "exited", "code": 7, "text": "exited with code 7"}
#: It tells when it wrote each line.
_TICKER = 'i=0; while [ $i -lt 300 ]; do date +%s.%N; sleep 0.031; i=$((i+1)); done'


def measure(setting: Setting) -> List[Figure]:
    """Projects at rest, as records of five files of output and up to ten ends each."""
    with setting.host() as host:
        latencies = _follow(host, setting.times(200))
    with setting.host() as host:
        names = [_add(StoreLayout(host.store), number) for number in range(_PROJECTS)]
        calls = []
        for _ in range(setting.times(15)):
            began = time.perf_counter()
            found = checked(host.request("GET", "/project"), 200)
            calls.append(1000 * (time.perf_counter() - began))
            assert len(found["projects"]) >= len(names)
    return [
        Figure(f"GET /project, {_PROJECTS} projects", "ms", calls, goal="≤ 200 ms"),
        Figure("line written → line at a follower", "ms", latencies, goal="≤ 100 ms", quantile=0.99),
    ]


def _add(store: StoreLayout, number: int) -> str:
    layout = store.project(f"project-{number:04d}")
    for folder in (layout.logs, layout.release("1")):
        os.makedirs(folder)
    ends = tuple(
        {"at": clock.timestamp(), "run": run, "version": "1", "ran_seconds": 1.2, "by_itself": True, "exit_cause": _CAUSE}
        for run in range(number % 11)
    )
    record = Record(layout.project, "exited", clock.timestamp(), "down, as wanted", 1, True, "1", 1, exits=ends)
    write_record(layout, Record(**{**vars(record), "outcome": Outcome(1, "1", True, 1)}))
    release = Release(layout.project, "1", "0" * 64, 1234, ("/bin/true",))
    for name, content in [("events.jsonl", "{}\n"), *((f"output-{segment:08d}.log", "x" * 100) for segment in range(1, 6))]:
        with open(f"{layout.logs}/{name}", "w", encoding="ascii") as file:
            file.write(content)
    with open(layout.release_json("1"), "w", encoding="ascii") as file:
        json.dump(release.to_json(), file)
    write_want(layout, Want(False, 1, "1"))
    return layout.project


def _follow(host: AgentHost, count: int) -> List[float]:
    checked(host.launch("ticker", script(host, f"{_TICKER}\n{FOREVER}")), 201)
    connection = http.client.HTTPConnection(*host.address, timeout=60)
    target = "/project/ticker/logs?format=text&follow=true&tail=0"
    connection.request("GET", target, headers={"Authorization": f"Bearer {host.token}"})
    with connection.getresponse() as answer:
        return [-1000 * (float(answer.readline()) - time.time()) for _ in range(count)]
