"""launch is one transaction: it ends with the new release ready, or with the old one untouched and the reason."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.support import artifact, processes
from tests.support.agent import AgentHost
from tests.support.wait import eventually

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("shape", artifact.ARCHIVES)
def test_an_archive_of_any_shape(host: AgentHost, project: str, shape: str) -> None:
    reply = host.launch_fixture(project, "hello", shape)
    assert reply.status == 201, reply
    host.wait_for_output(project, f"hello from {project} {reply.json['version']}\n".encode())


@pytest.mark.parametrize(
    ("fixture", "shape"),
    [
        ("run_sh_only", "tar.gz"),
        ("launch_sh_only", "tar.gz"),
        ("procfile", "zip"),
        ("single_script", "single"),
        ("zipapp", "zipapp"),
    ],
)
def test_an_entry_point_of_any_kind(host: AgentHost, project: str, fixture: str, shape: str) -> None:
    reply = host.launch_fixture(project, fixture, shape)
    assert reply.status == 201, reply
    by = {"run_sh_only": "run.sh", "launch_sh_only": "launch.sh", "procfile": "Procfile"}.get(fixture, fixture)
    assert host.wait_for_output(project, b"\n") == f"hello from {project} {reply.json['version']} by {by}\n".encode()


def test_an_archive_with_everything_below_one_folder(host: AgentHost, project: str) -> None:
    path = artifact.pack("hello", host.artifacts, folder="hello-1.0")
    assert host.launch(project, path).status == 201
    host.wait_for_output(project, b"hello from")


@pytest.mark.parametrize("fixture", ["prints_signals", "slow_ready", "cron_like", "forks_children"])
def test_a_program_that_lives_is_ready(host: AgentHost, project: str, fixture: str) -> None:
    reply = host.launch_fixture(project, fixture)
    assert reply.status == 201, reply
    assert reply.json["state"] == "ready"
    assert host.status(project)["state"] == "ready"


def test_a_slow_start_is_captured_from_its_first_line(host: AgentHost, project: str) -> None:
    host.launch_fixture(project, "slow_ready")
    assert host.wait_for_output(project, b"\nready\n") == b"starting\nready\n"


def test_the_reply_says_what_happened(host: AgentHost, project: str) -> None:
    path = artifact.pack("hello", host.artifacts)
    reply = host.launch(project, path, version="1.0")
    assert reply.status == 201, reply
    assert reply.headers["content-type"] == "application/json"
    document = reply.json
    steps = document.pop("steps")
    pid = document.pop("pid")
    assert document == {
        "status": "LaunchSuccessful",
        "project": project,
        "version": "1.0",
        "digest": artifact.digest(path),
        "state": "ready",
        "replaced": None,
        "warnings": [],
    }
    assert [process.pid for process in host.project_processes(project)] == [pid]
    assert steps
    assert all(set(step) == {"name", "seconds"} and step["seconds"] >= 0 for step in steps)


def test_what_the_manifest_says_to_others_is_a_warning(host: AgentHost, project: str) -> None:
    reply = host.launch_fixture(project, "hello", description="foreign")
    assert reply.status == 201, reply
    assert any("description" in warning for warning in reply.json["warnings"])


def test_a_release_is_ready_when_it_says_so(host: AgentHost, project: str) -> None:
    reply = host.launch_fixture(project, "slow_ready", env={"READY_AFTER_SECONDS": "1.5"})
    assert reply.status == 201, reply
    assert b"ready\n" in host.project_output(project)
    assert [step["seconds"] >= 1.5 for step in reply.json["steps"] if step["name"] == "ready"] == [True]


def test_a_release_that_does_not_become_ready_in_time(host: AgentHost, project: str) -> None:
    host.launch(project, artifact.pack("hello", host.artifacts), version="good")
    late = {"readiness": {"file": "ready", "timeout_seconds": 0.5}, "stop": {"grace_seconds": 0.2}}
    refusal = host.launch(project, artifact.pack("slow_ready", host.artifacts, manifest=late), version="late")
    assert (refusal.status, refusal.json["step"]) == (422, "ready"), refusal
    assert refusal.json["readiness"] == {"check": "file ready", "error": "it is not there yet"}
    assert refusal.json["running"]["version"] == "good"
    assert host.wait_for_state(project, "ready")["version"] == "good"


def test_a_launch_sent_again_after_the_agent_died_waits_for_the_proof(own_host: AgentHost, project: str) -> None:
    command = 'while ! test -e "$PERSIST_DIR/die"; do sleep 0.05; done; exit 3'
    manifest = {"command": command, "readiness": {"file": "never", "timeout_seconds": 300}}
    path = artifact.pack("hello", own_host.artifacts, manifest=manifest)
    with ThreadPoolExecutor(2) as pool:
        lost = pool.submit(own_host.launch, project, path, version="1")
        eventually(lambda: own_host.request("GET", f"/project/{project}").json.get("state") == "running", 30)
        own_host.crash_agent()
        assert isinstance(lost.exception(60), (OSError, HTTPException))
        again = pool.submit(own_host.launch, project, path, version="1")
        assert own_host.status(project)["state"] == "running"
        Path(own_host.store, "projects", project, "data", "die").touch()
        reply = again.result(60)
    assert (reply.status, reply.json["step"], reply.json["exit_cause"]["code"]) == (422, "ready", 3), reply


def test_a_hook_that_fails_is_told_and_nothing_has_changed(host: AgentHost, project: str) -> None:
    pid = host.launch(project, artifact.pack("hello", host.artifacts), version="good").json["pid"]
    hooks = {"before_launch": ["echo begun", "echo there is no such table >&2; exit 3"]}
    refusal = host.launch(project, artifact.pack("hello", host.artifacts, manifest=hooks), version="bad")
    assert (refusal.status, refusal.json["step"]) == (422, "before_launch"), refusal
    assert refusal.json["exit_cause"]["code"] == 3 and refusal.json["log_tail"] == ["there is no such table"]
    assert refusal.json["detail"].startswith(f"{project} bad was not started: hook ")
    assert refusal.json["detail"].endswith("exited with code 3; good runs on.")
    assert "meant to end" not in refusal.json["hint"]
    assert [step["output"] for step in refusal.json["steps"]] == ["begun\n", "there is no such table\n"]
    assert host.status(project)["pid"] == pid
    assert b"begun\nthere is no such table\n" in host.project_output(project)


def test_hooks_and_migrations_come_before_the_start(host: AgentHost, project: str) -> None:
    work = {"before_launch": ["mkdir -p migrations; echo hooked"], "migrations": {"database": "sqlite:data/app.db"}}
    members = {**artifact.read_project("hello"), "migrations/1.sql": (b"CREATE TABLE t (a);", 0o644)}
    members[artifact.MANIFEST] = (json.dumps(work).encode(), 0o644)
    path = artifact.write(artifact.encode(members, "tar.gz"), "migrating.tar.gz", host.artifacts)
    reply = host.launch(project, path)
    assert reply.status == 201, reply
    names = [step["name"] for step in reply.json["steps"]]
    assert names[-4:] == ["before_launch", "migrations", "start", "ready"]
    assert host.project_output(project).startswith(b"hooked\nhello from")


def test_the_version_is_the_call_s_then_the_manifest_s_then_the_digest_s(host: AgentHost, project: str) -> None:
    path = artifact.pack("hello", host.artifacts, manifest={"version": "of-manifest"})
    assert host.launch(project, path, version="of-call").json["version"] == "of-call"
    path = artifact.pack("hello", host.artifacts, manifest={"version": "of-manifest", "env": {"A": "1"}})
    assert host.launch(project, path).json["version"] == "of-manifest"
    path = artifact.pack("hello", host.artifacts)
    version = host.launch(project, path).json["version"]
    assert artifact.digest(path).startswith(version)


def test_the_same_again_changes_nothing(host: AgentHost, project: str) -> None:
    path = artifact.pack("hello", host.artifacts)
    first = host.launch(project, path, version="1")
    again = host.launch(project, path, version="1")
    assert (first.status, again.status) == (201, 200), again
    assert again.json["status"] == "AlreadyRunning"
    assert again.json["pid"] == first.json["pid"]
    assert host.status(project)["pid"] == first.json["pid"]
    assert host.staging() == []


def test_the_same_version_with_other_bytes_is_refused(host: AgentHost, project: str) -> None:
    pid = host.launch(project, artifact.pack("hello", host.artifacts), version="1").json["pid"]
    refusal = host.launch(project, artifact.pack("run_sh_only", host.artifacts), version="1")
    assert refusal.status == 409, refusal
    assert refusal.headers["content-type"] == "application/problem+json"
    assert "1" in refusal.json["detail"]
    assert refusal.json["hint"]
    assert host.status(project)["pid"] == pid
    assert host.staging() == []


def test_a_new_version_replaces_the_old(host: AgentHost, project: str) -> None:
    host.launch(project, artifact.pack("forks_children", host.artifacts), version="1")
    host.wait_for_output(project, b"level 3")
    old = host.project_processes(project)
    reply = host.launch(project, artifact.pack("hello", host.artifacts), version="2")
    assert reply.status == 201, reply
    assert reply.json["replaced"] == "1"
    assert not any(map(processes.is_alive, old))
    assert [process.pid for process in host.project_processes(project)] == [reply.json["pid"]]
    host.wait_for_output(project, f"hello from {project} 2\n".encode())


def test_a_program_that_fails_at_start(host: AgentHost, project: str) -> None:
    refusal = host.launch_fixture(project, "fails_at_start")
    assert refusal.status == 422, refusal
    assert refusal.headers["content-type"] == "application/problem+json"
    problem = refusal.json
    assert problem["project"] == project
    assert problem["step"]
    assert problem["exit_cause"]["kind"] == "exited"
    assert problem["exit_cause"]["code"] == 7
    assert "the database is not there" in "\n".join(problem["log_tail"])
    assert "7" in problem["detail"]
    assert problem["hint"]
    assert problem["running"] is None
    assert host.project_processes(project) == []
    assert host.staging() == []


def test_a_failed_launch_leaves_the_old_version_running(host: AgentHost, project: str) -> None:
    host.launch(project, artifact.pack("hello", host.artifacts), version="good")
    refusal = host.launch(project, artifact.pack("fails_at_start", host.artifacts), version="bad")
    assert refusal.status == 422, refusal
    assert refusal.json["running"]["version"] == "good"
    status = host.wait_for_state(project, "ready")
    assert status["version"] == "good"
    assert [process.pid for process in host.project_processes(project)] == [status["pid"]]


def test_a_bad_artifact_does_not_even_stop_the_old_version(host: AgentHost, project: str) -> None:
    pid = host.launch(project, artifact.pack("hello", host.artifacts), version="good").json["pid"]
    assert host.launch(project, artifact.pack("no_entry_point", host.artifacts), version="bad").status == 422
    assert host.status(project)["pid"] == pid
    assert host.status(project)["version"] == "good"


def test_a_leader_that_makes_itself_a_daemon_leaves_the_project_running(host: AgentHost, project: str) -> None:
    reply = host.launch_fixture(project, "leader_exits_first", stop={"grace_seconds": 0.2})
    assert reply.status == 201, reply
    (child,) = host.project_processes(project)
    assert host.status(project)["pid"] == child.pid
    assert f"child is {child.pid}\n".encode() in host.project_output(project)


def test_a_leader_that_crashes_takes_its_children_along(host: AgentHost, project: str) -> None:
    refusal = host.launch_fixture(project, "leader_exits_first", stop={"grace_seconds": 0.2}, env={"LEADER_EXIT_CODE": "4"})
    assert refusal.status == 422, refusal
    assert refusal.json["exit_cause"]["code"] == 4
    assert host.project_processes(project) == []


def test_a_launch_after_a_kill_starts_it_again(host: AgentHost, project: str) -> None:
    path = artifact.pack("hello", host.artifacts)
    first = host.launch(project, path)
    host.kill(project)
    second = host.launch(project, path)
    assert second.status == 201, second
    assert second.json["status"] == "LaunchSuccessful"
    assert second.json["version"] == first.json["version"]
    assert [process.pid for process in host.project_processes(project)] == [second.json["pid"]]
