"""Clients that call all at once while anything of ours is killed or stopped: no lie, no lost line, nothing left over.

ANT_CHAOS_CALLS (a client) and ANT_CHAOS_SEED choose how long and which. It is slow, so CI runs it with ANT_SLOW=1 only.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from http.client import HTTPException
from typing import Any, Callable, Dict, Iterator, List

import pytest

from tests.chaos.history import DOWN, UNKNOWN, Call, Project, explain
from tests.conftest import NEWEST, find_interpreters
from tests.support import artifact, processes
from tests.support.agent import AGENT, AgentHost
from tests.support.http import Response
from tests.support.processes import Process
from tests.support.wait import eventually

CLIENTS = 8
CALLS = int(os.environ.get("ANT_CHAOS_CALLS", "80"))
SEED = int(os.environ.get("ANT_CHAOS_SEED", "1"))
PROJECTS = ("ants", "bees", "moths", "wasps", "flies")
#: How often a client makes which call.
VERBS = {"launch": 6, "broken": 1, "kill": 3, "purge": 1, "restart": 2, "status": 6}


@pytest.fixture
def chaos_host(pyz: str) -> Iterator[AgentHost]:
    with AgentHost(pyz, list(find_interpreters(NEWEST).values())[-1]) as host:
        yield host


class Client(threading.Thread):
    """Makes its calls one after the other and notes each; a refused connection is nobody's answer and ends the test."""

    def __init__(self, host: AgentHost, number: int, packed: Dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.calls: Dict[str, List[Call]] = {project: [] for project in PROJECTS}
        self.refused: List[str] = []
        self._host, self._number, self._packed = host, number, packed
        self._random = random.Random(SEED * 1000 + number)

    def run(self) -> None:
        for _ in range(CALLS):
            project = self._random.choice(PROJECTS)
            verb = self._random.choices(list(VERBS), list(VERBS.values()))[0]
            argument = self._random.choice("123") if verb == "launch" else ""
            call = Call(self._number, verb, argument, time.monotonic())
            self.calls[project].append(call)
            try:
                answer = self._make(verb, project, argument)
            except ConnectionRefusedError as error:
                self.refused.append(f"{call}: {error}")
            except (OSError, HTTPException):
                continue  # the agent died with it
            else:
                call.ended, call.status, call.reply = time.monotonic(), answer.status, answer.json

    def _make(self, verb: str, project: str, argument: str) -> Response:
        host = self._host
        verbs: Dict[str, Callable[[], Response]] = {
            "launch": lambda: host.launch(project, self._packed[argument], version=argument),
            "broken": lambda: host.launch(project, self._packed["broken"], version="broken"),
            "kill": lambda: host.kill(project),
            "purge": lambda: host.kill(project, purge="true"),
            "restart": lambda: host.request("POST", f"/project/{project}/restart"),
            "status": lambda: host.request("GET", f"/project/{project}"),
        }
        return verbs[verb]()


class Chaos(threading.Thread):
    """Kills or stops a process of ours again and again, until it is told to end."""

    def __init__(self, host: AgentHost) -> None:
        super().__init__(daemon=True)
        self.done: List[str] = []
        self._host, self._over = host, threading.Event()
        self._random = random.Random(SEED)

    def run(self) -> None:
        while not self._over.wait(self._random.uniform(0.2, 1.0)):
            victims = [process for process in self._host.processes() if is_ours(process)]
            if victims and self._is_whole():
                self._disturb(self._random.choice(victims))

    def end(self) -> None:
        self._over.set()
        self.join()

    def _is_whole(self) -> bool:
        """Whether agent and shim both live: one death is what they promise to bear, and two at once leave nobody."""
        record = self._host.record(AGENT)
        return record["state"] == "ready" and all(processes.look(pid) for pid in (record["pid"], record["shim"]["pid"]))

    def _disturb(self, victim: Process) -> None:
        is_stopped = self._random.random() < 0.2
        self.done.append(f"{time.monotonic():9.3f} {'STOP' if is_stopped else 'KILL'} {victim}")
        if not processes.is_alive(victim):
            return
        try:
            os.kill(victim.pid, signal.SIGSTOP if is_stopped else signal.SIGKILL)
            if is_stopped:
                self._over.wait(self._random.uniform(0.1, 2.0))
                os.kill(victim.pid, signal.SIGCONT)
        except ProcessLookupError:
            return


def is_ours(process: Process) -> bool:
    """Whether it is a process of the agent, and not of a project."""
    return "counts_lines" not in process.command and "__main__.py" not in process.command


@pytest.mark.slow
def test_no_answer_lies_and_no_line_is_lost(chaos_host: AgentHost) -> None:
    host = chaos_host
    packed = {version: artifact.pack("counts_lines", host.artifacts, manifest={"env": {"N": version}}) for version in "123"}
    packed["broken"] = artifact.pack("no_entry_point", host.artifacts)
    clients = [Client(host, number, packed) for number in range(CLIENTS)]
    chaos = Chaos(host)
    for thread in (*clients, chaos):
        thread.start()
    for client in clients:
        client.join()
    chaos.end()
    story = "\n".join(chaos.done)
    refused = [line for client in clients for line in client.refused]
    assert refused == [], f"{refused[:3]}\n{story}\n{host.output()}\n{host.agent_output()}"
    assert "incident" not in host.agent_output(), f"{story}\n{host.agent_output()}"
    events = host.read("projects", AGENT, "logs", "events.jsonl").decode()
    assert "shim_failed" not in events, f"{story}\n{events}"
    for project in PROJECTS:
        end = settled(host, project)
        calls = [call for client in clients for call in client.calls[project]]
        explanation = explain(calls, [end])
        assert explanation is None, f"{project}: {explanation}\n{story}"
        if end.known:
            assert_whole(project, host.project_output(project))


def settled(host: AgentHost, project: str) -> Project:
    """What the project is once nothing is under way: one process for what is up, none for what is not."""

    def look() -> Any:
        answer = host.request("GET", f"/project/{project}")
        alive = [process.pid for process in host.project_processes(project)]
        if answer.status == 404:
            return None if alive else UNKNOWN
        status = answer.json
        if status["want"] == "down":
            return None if alive or status["pid"] or status["state"] not in ("exited", "failed") else DOWN
        is_settled = status["state"] == "ready" and alive == [status["pid"]] and status["shim_pid"]
        return Project(True, status["version"]) if is_settled else None

    def seen() -> str:
        kernel = ", ".join(map(str, host.project_processes(project)))
        return f"{project}: {host.request('GET', f'/project/{project}')}; alive: {kernel}; agent: {host.status(AGENT)}"

    found = eventually(look, 60, seen)
    assert isinstance(found, Project)
    return found


def assert_whole(project: str, output: bytes) -> None:
    """Every run's numbers from 0 on, each once and in order."""
    following: Dict[bytes, int] = {}
    for line in output.splitlines():
        run, _, number = line.rpartition(b" ")
        assert number == b"%d" % following.get(run, 0), f"{project}: {line!r}, not {following.get(run, 0)}"
        following[run] = int(number) + 1
