"""Eight clients and what disturbs them, and afterwards what has to be so: no lie, no lost line, nothing left over."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import time
from dataclasses import replace
from typing import Any, Dict, List, Optional, Sequence

from tests.chaos.clients import BYSTANDER, PATIENCE_SECONDS, PROJECTS, SECRET, SIZES, TELLING, UPGRADED, Client, Supply, plan
from tests.chaos.disturbances import Disturbance
from tests.chaos.history import LOST, UNKNOWN, Call, Project, explain
from tests.chaos.promises import find_disorder, find_hole, find_secret, runs_in, was_disturbed, whole_lines
from tests.support.agent import AGENT, AgentHost
from tests.support.disk import PoweredDisk
from tests.support.processes import Process
from tests.support.wait import eventually

CLIENTS = 8
CALLS = int(os.environ.get("ANT_CHAOS_CALLS", "80"))
SEED = int(os.environ.get("ANT_CHAOS_SEED", "1"))


def play(
    host: AgentHost, supplied: Supply, disturbances: Sequence[Disturbance], seed: int, is_whole: bool = True, calls: int = CALLS
) -> None:  # fmt: skip
    """Let the clients make their calls; AssertionError for whatever is not as it was promised, with the whole story.

    `is_whole`: no disk refuses output, so that no line may be missing.
    """
    host.timeout_seconds = PATIENCE_SECONDS
    launched = host.launch(BYSTANDER, supplied.artifacts["0"], version="0")
    assert launched.status == 201, launched
    before = host.status(BYSTANDER)
    clients = [Client(host, number, plan(number, seed, calls, supplied), supplied, is_whole) for number in range(CLIENTS)]
    for disturbance in disturbances:
        disturbance.clients = clients
    for thread in (*clients, *disturbances):
        thread.start()
    for client in clients:
        client.join()
    for disturbance in disturbances:
        disturbance.end()
    story = "\n".join(sorted(line for disturbance in disturbances for line in disturbance.done))
    wrong = [line for thread in (*clients, *disturbances) for line in thread.wrong]
    assert wrong == [], f"{wrong[:3]}\n{story}\n{host.output()}\n{host.agent_output()}\n{_told_of_output(host)}"
    check_agent(host, story)
    for project in PROJECTS:
        made = [call for client in clients for call in client.calls[project]]
        explanation = explain(made, [settled(host, project)])
        assert explanation is None, f"{project}: {explanation}\n{story}"
        if is_whole and host.request("GET", f"/project/{project}").status == 200:
            hole = find_hole(whole_lines(host.project_output(project)))
            assert hole is None, f"{project}: {hole}\n{story}"
    check_upgrades([call for client in clients for call in client.calls[AGENT]], story)
    check_bystander(host, before, story, is_whole)
    told = find_secret(SECRET, _files_of(host))
    assert told == [], f"{told}\n{story}"


def check_bystander(host: AgentHost, before: Dict[str, Any], story: str, is_whole: bool) -> None:
    """It is the run that it was, and all that this has said is there."""
    settled(host, BYSTANDER)
    after = host.status(BYSTANDER)
    disturbed = was_disturbed(before, after)
    assert disturbed is None, f"{disturbed}\n{after['exits']}\n{story}\n{_told_of_output(host)}"
    output = whole_lines(host.project_output(BYSTANDER))
    is_one = find_hole(output) is None and len(runs_in(output)) == 1
    assert is_one or not is_whole, f"{find_hole(output)}; runs: {runs_in(output)}\n{story}"


def _files_of(host: AgentHost) -> Dict[str, bytes]:
    """What lies in the store, but for the secrets themselves, and what the process that was started has printed."""
    paths = [os.path.join(folder, name) for folder, _, names in os.walk(host.store) for name in names]
    plain = [path for path in paths if os.path.isfile(path) and os.path.basename(os.path.dirname(path)) != "secrets"]
    found = {"output": host.output().encode()}
    for path in plain:
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:  # it was there for a moment only
            found[path] = file.read()
    return found


def check_agent(host: AgentHost, story: str) -> None:
    """Nothing happened that nobody foresaw; one agent, one shim of its own, nothing left over."""
    assert "incident" not in host.agent_output(), f"{story}\n{host.agent_output()}"
    events = host.read("projects", AGENT, "logs", "events.jsonl").decode()
    assert "shim_failed" not in events, f"{story}\n{events}"
    eventually(lambda: not disorder(host), 60, lambda: f"{disorder(host)}: {_state(host)}\n{story}")


def _told_of_output(host: AgentHost) -> str:
    """What the shims of all projects have told of their runs."""
    told = []
    for project in (*PROJECTS, BYSTANDER):
        path = host.path("projects", project, "logs", "events.jsonl")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                told += [f"{project}: {line}" for line in file.read().splitlines()]
    return "\n".join(told)


def check_upgrades(calls: Sequence[Call], story: str) -> None:
    """They may be in vain while processes are killed, and nothing else."""
    for call in calls:
        assert call.status in UPGRADED, f"{call}\n{story}"


def disorder(host: AgentHost) -> List[str]:
    """What is not as it is at rest: one shim, one agent, the wanted release of it, nothing left of a proof or of an upload."""
    want = json.loads(host.read("projects", AGENT, "want.json"))
    shims, agents = ([process.pid for process in those(host, role)] for role in ("shim", "agent"))
    link = host.path("projects", AGENT, "current")
    listed = host.request("GET", "/project")
    assert listed.status == 200, f"{listed}\n{host.agent_output()}"
    strangers = {entry["project"] for entry in listed.json["projects"]} - {AGENT, BYSTANDER, *PROJECTS}
    current = os.readlink(link) if os.path.islink(link) else None
    return find_disorder(host.record(AGENT), want["release"], current, shims, agents, host.staging(), sorted(strangers))


def those(host: AgentHost, role: str) -> List[Process]:
    """The processes that are an agent, or an agent's own shim, by their command lines."""
    return [process for process in host.processes() if process.command.split()[4:6] == [role, host.store]]


def _state(host: AgentHost) -> object:
    there = [str(process) for process in host.processes()]
    return host.record(AGENT), host.read("projects", AGENT, "want.json"), there, host.staging(), host.projects()


def settled(host: AgentHost, project: str) -> Project:
    """What the project is once nothing is under way: its processes for what is up, none for what is not."""

    def look() -> Any:
        answer = host.request("GET", f"/project/{project}")
        alive = [process.pid for process in host.project_processes(project)]
        if answer.status == 404:
            return None if alive else on_disk(host, project, False, None)
        status = answer.json
        if status["want"] == "down":
            is_settled = not alive and status["pid"] is None and status["state"] in ("exited", "failed")
            return on_disk(host, project, True, None) if is_settled else None
        is_settled = status["state"] == "ready" and status["pid"] in alive and status["shim_pid"]
        is_settled = is_settled and len(alive) == SIZES[status["version"]]
        return on_disk(host, project, True, status["version"]) if is_settled else None

    def seen() -> str:
        kernel = ", ".join(map(str, host.project_processes(project)))
        return f"{project}: {host.request('GET', f'/project/{project}')}; alive: {kernel}; agent: {host.status(AGENT)}"

    found = eventually(look, 60, seen)
    assert isinstance(found, Project)
    return found


def _is_draft(host: AgentHost, path: str) -> bool:
    """Whether it is one of this boot: others count for nothing."""
    if not path.endswith(".json.draft"):
        return False
    with open(path, encoding="utf-8") as file:
        text = file.read()
    return str(host.record(AGENT)["boot_id"]) in text


def on_disk(host: AgentHost, project: str, known: bool, version: Optional[str]) -> Project:
    """The project with the releases and secrets that are in the store."""
    folder = host.path("projects", project)
    if not os.path.isdir(folder):
        return UNKNOWN
    names = os.listdir(f"{folder}/releases") if os.path.isdir(f"{folder}/releases") else []
    kept = {
        name[: name.index(".json")] for name in names if name.endswith(".json") or _is_draft(host, f"{folder}/releases/{name}")
    }  # fmt: skip
    current = os.path.basename(os.readlink(f"{folder}/current")) if os.path.islink(f"{folder}/current") else None
    secrets = os.listdir(f"{folder}/secrets") if os.path.isdir(f"{folder}/secrets") else []
    return Project(known, version, current, tuple(sorted(kept)), frozenset(secrets))


def lose_power(host: PoweredDisk, supplied: Supply, seed: int, boots: int) -> None:
    """Cut the power while the clients call, again and again: what was answered is so afterwards."""
    chance = random.Random(f"power {seed}")
    history: Dict[str, List[Call]] = {project: [] for project in PROJECTS}
    for boot in range(boots):
        planned = [plan(number, seed * 100 + boot, CALLS, supplied) for number in range(CLIENTS)]
        clients = [Client(host, number, calls, supplied, is_whole=False) for number, calls in enumerate(planned)]
        for client in clients:
            client.start()
        enough = chance.randint(1, CLIENTS * CALLS * 3 // 4)
        eventually(lambda: sum(client.made for client in clients) >= enough, 600, "calls")  # noqa: B023
        for client in clients:
            client.over.set()
        cut_at = time.monotonic()
        host.cut_power()
        for client in clients:
            client.join()
        assert [line for client in clients for line in client.wrong] == []
        host.boot()
        check_agent(host, f"boot {boot}")
        for project in PROJECTS:
            history[project] += survived([call for client in clients for call in client.calls[project]], cut_at)
            explanation = explain(history[project], [settled(host, project)])
            assert explanation is None, f"boot {boot}, {project}: {explanation}\nthe power was cut at {cut_at:.3f}"


def survived(calls: Sequence[Call], cut_at: float) -> List[Call]:
    """What was answered before the cut. What only tells, or refuses, may have told of what was then lost."""
    kept = [call if call.ended < cut_at else _lost(call) for call in calls]
    lost = min((call.began for call in kept if call.status == LOST and call.verb not in TELLING), default=math.inf)
    before = [call for call in kept if call.verb not in TELLING or call.ended < lost]
    return [call if call.ended < lost or call.status < 400 else _lost(call) for call in before]


def _lost(call: Call) -> Call:
    return replace(call, ended=math.inf, status=LOST, reply={})
