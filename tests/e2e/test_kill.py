"""kill leaves nothing alive, root or not, and the reply lists every pid."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Tuple

import pytest

from tests.support import artifact, http, processes
from tests.support.agent import AgentHost
from tests.support.processes import Process
from tests.support.wait import eventually

pytestmark = pytest.mark.e2e

#: Fixture, members of its manifest, the output that says that its tree is complete, and how many processes that has.
TREES: List[Tuple[str, Dict[str, Any], bytes, int]] = [
    ("hello", {}, b"hello", 1),
    ("prints_signals", {}, b"ready", 1),
    ("ignores_term", {"stop": {"grace_seconds": 0.3}}, b"ready", 1),
    ("forks_children", {}, b"level 3", 3),
    ("escapes_session", {"stop": {"grace_seconds": 0.3}}, b"daemon is", 2),
    ("leader_exits_first", {"stop": {"grace_seconds": 0.3}}, b"leader exits", 1),
    ("cron_like", {"env": {"EVERY_SECONDS": "1000"}}, b"wake 1", 2),
    ("floods_logs", {"env": {"LINES": "1000000000"}}, b"line 0000002", 2),
    ("serves_http", {}, b"ready on", 1),
]


def launch(host: AgentHost, project: str, fixture: str, manifest: Dict[str, Any], said: bytes) -> List[Process]:
    if fixture == "serves_http":
        manifest = {"env": {"PORT": str(http.free_port())}}
    reply = host.launch_fixture(project, fixture, **manifest)
    assert reply.status == 201, reply
    host.wait_for_output(project, said)
    return host.project_processes(project)


@pytest.mark.parametrize(("fixture", "manifest", "said", "count"), TREES, ids=[tree[0] for tree in TREES])
def test_zero_survivors_and_every_pid_listed(
    any_user_host: AgentHost, project: str, fixture: str, manifest: Dict[str, Any], said: bytes, count: int
) -> None:
    host = any_user_host
    alive = launch(host, project, fixture, manifest, said)
    assert len(alive) == count, list(map(str, alive))
    reply = host.kill(project)
    assert reply.status == 200, reply
    assert reply.json["status"] == "Successful"
    assert reply.json["survivors"] == []
    assert not any(map(processes.is_alive, alive))
    assert host.project_processes(project) == []
    killed = {entry["pid"]: entry for entry in reply.json["killed"]}
    assert set(killed) == {process.pid for process in alive}
    assert all(entry["command"] and entry["signal"] in ("SIGTERM", "SIGKILL") for entry in killed.values())
    assert host.status(project)["state"] == "exited"
    assert host.status(project)["want"] == "down"


def test_the_unprivileged_agent_is_not_root(any_user_host: AgentHost, project: str) -> None:
    uid = os.geteuid() if any_user_host.user is None else os.stat(any_user_host.store).st_uid
    pid = any_user_host.launch_fixture(project, "hello").json["pid"]
    assert processes.status(pid)["Uid"].split() == [str(uid)] * 4
    assert any_user_host.user is None or uid != 0


def test_the_stop_signal_comes_first_and_suffices(host: AgentHost, project: str) -> None:
    host.launch_fixture(project, "prints_signals")
    reply = host.kill(project)
    assert [entry["signal"] for entry in reply.json["killed"]] == ["SIGTERM"]
    assert host.project_output(project) == b"ready\ngot SIGTERM\n"


def test_the_manifest_s_own_stop_signal(host: AgentHost, project: str) -> None:
    host.launch_fixture(project, "prints_signals", stop={"signal": "SIGINT", "grace_seconds": 0.3})
    reply = host.kill(project)
    assert host.project_output(project) == b"ready\ngot SIGINT\n"
    assert [entry["signal"] for entry in reply.json["killed"]] == ["SIGKILL"]


def test_what_ignores_the_stop_signal_gets_sigkill(host: AgentHost, project: str) -> None:
    host.launch_fixture(project, "ignores_term", stop={"grace_seconds": 60})
    reply = host.kill(project, grace_seconds=0.2)
    assert reply.status == 200, reply
    assert [entry["signal"] for entry in reply.json["killed"]] == ["SIGKILL"]


def test_a_kill_during_backoff(host: AgentHost, project: str) -> None:
    host.launch_fixture(project, "crash_loop", restart={"delay_seconds": 1000, "max_delay_seconds": 1000})
    host.wait_for_state(project, "backoff")
    assert host.kill(project).status == 200
    status = host.status(project)
    assert (status["state"], status["next_start_at"]) == ("exited", None)


def test_nothing_to_kill(host: AgentHost, project: str) -> None:
    host.launch_fixture(project, "hello")
    assert host.kill(project).json["status"] == "Successful"
    again = host.kill(project)
    assert again.status == 200, again
    assert again.json["status"] == "NothingToKill"


def test_an_unknown_project(host: AgentHost, project: str) -> None:
    refusal = host.kill(project)
    assert refusal.status == 404, refusal
    assert refusal.headers["content-type"] == "application/problem+json"


def test_the_agent_itself_is_not_killed(host: AgentHost) -> None:
    agent = host.agent_pid
    refusal = host.kill("ant-host-agent")
    assert refusal.status == 409, refusal
    assert "stop" in refusal.json["hint"]
    assert host.agent_pid == agent


def test_purge_leaves_nothing_on_disk(host: AgentHost, project: str) -> None:
    host.launch_fixture(project, "hello")
    assert host.kill(project, purge="true").status == 200
    assert not os.path.exists(host.path("projects", project))
    assert host.staging() == []
    assert host.request("GET", f"/project/{project}").status == 404


def test_killed_stays_killed_when_the_agent_starts_again(own_host: AgentHost, project: str) -> None:
    own_host.launch(project, artifact.pack("hello", own_host.artifacts), version="1")
    own_host.launch("witness", artifact.pack("hello", own_host.artifacts), version="1")
    own_host.kill(project)
    own_host.stop()
    witness = own_host.project_processes("witness")
    processes.kill_all(witness)  # a start has to bring this one back, so that we know when it has looked
    own_host.start()
    eventually(lambda: own_host.project_processes("witness"), 20, "another run of the witness")
    assert own_host.status(project)["want"] == "down"
    assert own_host.project_processes(project) == []
