"""kill -9 of any one process of ours changes no answer, takes down no project and loses no line."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any, Dict

import pytest

from tests.support import artifact, bundles, processes
from tests.support.agent import AGENT, AgentHost
from tests.support.wait import eventually

pytestmark = pytest.mark.e2e

#: Enough to last over several deaths of its shim, with segments small enough to rotate many times.
FLOOD: Dict[str, Any] = {"env": {"LINES": "400000"}, "logs": {"segment_bytes": 262144, "segments": 100}}


def answers(host: AgentHost, project: str) -> Dict[str, Any]:
    """What the agent says of a project at rest, without what time alone changes."""
    status = host.status(project)
    for measured in ("uptime_seconds", "cpu_seconds", "memory_bytes"):
        status.pop(measured)
    return {"status": status, "logs": host.logs(project), "projects": host.projects()}


def wait_for_new_shim(host: AgentHost, project: str, dead: processes.Process) -> None:
    """Until the project's shim is another one than `dead`."""
    eventually(lambda: (host.status(project)["shim_pid"] or dead.pid) != dead.pid, 20, lambda: f"{host.status(project)}")


def test_the_agent_between_any_two_calls(host: AgentHost, project: str) -> None:
    path = artifact.pack("hello", host.artifacts)
    host.crash_agent()
    first = host.launch(project, path, version="1")
    assert first.status == 201, first
    before = answers(host, project)
    host.crash_agent()
    assert answers(host, project) == before
    host.crash_agent()
    again = host.launch(project, path, version="1")
    assert (again.status, again.json["pid"]) == (200, first.json["pid"])
    host.crash_agent()
    reply = host.kill(project)
    assert [entry["pid"] for entry in reply.json["killed"]] == [first.json["pid"]]
    host.crash_agent()
    assert host.kill(project).json["status"] == "NothingToKill"


@pytest.mark.newest
def test_what_is_dead_is_not_called_ready_before_its_shim_has_looked(own_host: AgentHost) -> None:
    path = artifact.pack("hello", own_host.artifacts)
    first = own_host.launch("web", path).json["pid"]
    shim = own_host.shim_pid("web")
    os.kill(shim, signal.SIGSTOP)
    try:
        os.kill(first, signal.SIGKILL)
        eventually(lambda: own_host.status("web")["state"] == "exited", 10, lambda: str(own_host.status("web")))
        every = own_host.request("GET", "/project").json["projects"]
        assert [(entry["state"], entry["pid"]) for entry in every if entry["project"] == "web"] == [("exited", None)]
    finally:
        os.kill(shim, signal.SIGCONT)
    assert own_host.wait_for_state("web", "ready")["pid"] != first


def test_the_agent_refuses_no_connection_while_it_is_dead(host: AgentHost) -> None:
    for _ in range(3):
        before = host.agent
        host.crash_agent()
        reply = host.request("GET", "/ping", key=None)  # waits in the socket's backlog
        assert (reply.status, reply.body) == (200, b"pong")
        assert not processes.is_alive(before)


@pytest.mark.newest
def test_an_agent_that_served_is_started_again_at_once_however_often_it_dies(own_host: AgentHost) -> None:
    for _ in range(6):
        own_host.wait_for_state(AGENT, "ready", deadline_seconds=30)
        before = own_host.agent_pid
        own_host.crash_agent()
        eventually(lambda: own_host.record(AGENT)["pid"] not in (None, before), 30, "another agent")  # noqa: B023
    events = [json.loads(line) for line in own_host.read("projects", AGENT, "logs", "events.jsonl").splitlines()]
    delays = [event["delay_seconds"] for event in events if event["event"] == "decision"]
    assert len(delays) == 6 and set(delays) == {0.05}


def test_a_shim_is_replaced_and_its_child_runs_on(host: AgentHost, project: str) -> None:
    pid = host.launch_fixture(project, "cron_like").json["pid"]
    dead = host.crash_shim(project)
    wait_for_new_shim(host, project, dead)
    status = host.status(project)
    assert (status["pid"], status["state"]) == (pid, "ready")
    lines = host.project_output(project).count(b"\n")
    host.wait_for_output(project, b"wake %d:" % (lines + 2))
    reply = host.kill(project)
    assert pid in [entry["pid"] for entry in reply.json["killed"]]
    assert host.project_processes(project) == []


def test_a_kill_right_after_the_shim_s_death(host: AgentHost, project: str) -> None:
    host.launch_fixture(project, "escapes_session", stop={"grace_seconds": 0.2})
    host.wait_for_output(project, b"daemon is")
    alive = host.project_processes(project)
    assert len(alive) == 2
    host.crash_shim(project)
    reply = host.kill(project)
    assert reply.status == 200, reply
    assert not any(map(processes.is_alive, alive))
    assert {entry["pid"] for entry in reply.json["killed"]} == {process.pid for process in alive}


def test_no_line_is_lost_or_repeated_over_deaths_of_the_shim(host: AgentHost, project: str) -> None:
    reply = host.launch_fixture(project, "floods_logs", **FLOOD)
    assert reply.status == 201, reply
    # the flood may be over sooner than three deaths; what counts is that each of them changes nothing
    for _ in range(3):
        wait_for_new_shim(host, project, host.crash_shim(project))
    output = host.wait_for_output(project, b"done\n", 60)
    numbers = [int(line.split()[1]) for line in output.splitlines() if line.startswith(b"line ")]
    assert len(numbers) == len(set(numbers))
    assert numbers == sorted(numbers)
    if host.splices():  # else a death may lose what is between read(2) and write(2)
        assert numbers == list(range(1, 400_001))


def test_the_agent_s_own_shim_is_replaced(own_host: AgentHost, project: str) -> None:
    pid = own_host.launch_fixture(project, "hello").json["pid"]
    agent = own_host.agent
    dead = own_host.crash_shim(AGENT)
    assert own_host.request("GET", "/ping", key=None).body == b"pong"
    wait_for_new_shim(own_host, AGENT, dead)
    assert own_host.agent_pid == agent.pid
    assert own_host.status(project)["pid"] == pid
    own_host.crash_agent()  # the new shim has to do what the old one did
    assert own_host.status(project)["pid"] == pid
    assert own_host.launch_fixture("another", "hello").status == 201


def test_the_agent_s_shim_and_a_project_s_shim_both(own_host: AgentHost, project: str) -> None:
    pid = own_host.launch_fixture(project, "hello").json["pid"]
    own_host.crash_shim(AGENT)
    dead = own_host.crash_shim(project)
    wait_for_new_shim(own_host, project, dead)
    assert own_host.status(project)["pid"] == pid
    assert [entry["pid"] for entry in own_host.kill(project).json["killed"]] == [pid]


def test_both_processes_of_the_agent_at_once(own_host: AgentHost, project: str) -> None:
    pid = own_host.launch_fixture(project, "hello").json["pid"]
    shim, agent = own_host.shim(AGENT), own_host.agent
    for process in (shim, agent):  # or the second would have the time to replace the first
        os.kill(process.pid, signal.SIGSTOP)
    processes.kill_all([shim, agent])
    eventually(lambda: not processes.is_alive(shim) and not processes.is_alive(agent))
    eventually(own_host.process_ended)
    own_host.start()  # as systemd would
    assert own_host.status(project)["pid"] == pid
    assert json.loads(own_host.read("projects", project, "record.json"))["state"] == "ready"


@pytest.mark.newest
def test_a_bug_in_a_turn_of_the_agent_s_shim_takes_nothing_down(pyz: str, python: str, tmp_path: Path) -> None:
    begin = b"    def _look(self) -> None:\n"
    bug = b"        if os.path.exists(path := self.layout.root + '/bug'):\n            os.unlink(path)\n            1 / 0\n"
    changed = bundles.release(pyz, str(tmp_path), "buggy", ("agent/shim/agent_turn.py", begin, begin + bug))
    with AgentHost(changed, python) as host:
        host.launch_fixture("hello", "hello")
        shim, mark = host.shim_pid(AGENT), Path(host.path("projects", AGENT, "bug"))
        mark.touch()
        host.crash_agent()
        assert host.launch_fixture("hello", "hello").json["status"] == "AlreadyRunning"
        assert not mark.exists() and host.shim_pid(AGENT) == shim
        assert b"ZeroDivisionError" in host.read("projects", AGENT, "logs", "events.jsonl")
