"""Both shapes of the API, and all shapes of a launch, are one implementation."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Dict, Tuple

import pytest

from build import version_of
from tests.support import artifact, http
from tests.support.agent import AGENT, AgentHost
from tests.support.http import Response
from tests.support.log_tar import members_of, output_of

pytestmark = pytest.mark.e2e


def post_form(host: AgentHost, path: str, fields: Dict[str, str], artifact_path: str) -> Response:
    with open(artifact_path, "rb") as stream:
        body, content_type = http.multipart(fields, {"artifact": (os.path.basename(artifact_path), stream.read())})
    return host.request("POST", path, body, {"Content-Type": content_type})


@pytest.mark.parametrize(("method", "path"), [("GET", "/ping"), ("POST", "/ping"), ("GET", "/ping?x=1")])
def test_ping_needs_no_key(host: AgentHost, method: str, path: str) -> None:
    reply = host.request(method, path, key=None)
    assert (reply.status, reply.body) == (200, b"pong")
    assert reply.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("path", ["/project", "/launch_project"])
def test_launch_as_a_form(host: AgentHost, project: str, path: str) -> None:
    packed = artifact.pack("hello", host.artifacts)
    reply = post_form(host, path, {"project": project, "version": "1", "sha256": artifact.digest(packed)}, packed)
    assert reply.status == 201, reply
    assert reply.json["digest"] == artifact.digest(packed)
    host.wait_for_output(project, f"hello from {project} 1\n".encode())


def test_launch_as_a_form_with_a_manifest(host: AgentHost, project: str) -> None:
    manifest = json.dumps({"command": "echo by manifest $WORD; exec sleep 1000", "env": {"WORD": "indeed"}})
    packed = artifact.pack("no_entry_point", host.artifacts)
    reply = post_form(host, "/project", {"project": project, "manifest": manifest}, packed)
    assert reply.status == 201, reply
    host.wait_for_output(project, b"by manifest indeed\n")


@pytest.mark.parametrize("path", ["/project", "/launch_project"])
def test_launch_as_a_raw_body(host: AgentHost, project: str, path: str) -> None:
    packed = artifact.pack("hello", host.artifacts)
    with open(packed, "rb") as stream:
        content = stream.read()
    query = http.query(path, {"project": project, "version": "1", "sha256": artifact.digest(packed)})
    reply = host.request("POST", query, content, {"Content-Type": "application/octet-stream"})
    assert reply.status == 201, reply
    host.wait_for_output(project, f"hello from {project} 1\n".encode())


@pytest.fixture(scope="module")
def launched(host: AgentHost) -> Tuple[AgentHost, str]:
    assert host.launch_fixture("both-shapes", "hello").status == 201
    return host, "both-shapes"


def test_describe(launched: Tuple[AgentHost, str]) -> None:
    host, project = launched
    stable = ("project", "state", "version", "digest", "pid", "want")
    answers = [
        host.request("GET", f"/project/{project}"),
        host.request_json("POST", "/describe_projects", {"project": project}),
    ]
    assert [answer.status for answer in answers] == [200, 200], answers
    rest, rpc = ({name: answer.json[name] for name in stable} for answer in answers)
    assert rest == rpc
    assert (rest["project"], rest["state"], rest["want"]) == (project, "ready", "up")


def test_describe_all(launched: Tuple[AgentHost, str]) -> None:
    host, project = launched
    for answer in (host.request("GET", "/project"), host.request_json("POST", "/describe_projects", {})):
        assert answer.status == 200, answer
        names = [entry["project"] for entry in answer.json["projects"]]
        assert names == sorted(names)
        assert {project, "ant-host-agent"} <= set(names)


def test_logs(launched: Tuple[AgentHost, str]) -> None:
    host, project = launched
    answers = [
        host.request("GET", f"/project/{project}/logs"),
        host.request_json("POST", "/get_project_logs", {"project": project}),
    ]
    for answer in answers:
        assert answer.status == 200, answer
        assert answer.headers["content-type"] == "application/x-tar"
        assert int(answer.headers["content-length"]) == len(answer.body)
    outputs = {output_of(project, members_of(answer.body)) for answer in answers}
    assert len(outputs) == 1


@pytest.mark.parametrize("shape", ["rest", "rpc"])
def test_kill(host: AgentHost, project: str, shape: str) -> None:
    pid = host.launch_fixture(project, "hello").json["pid"]
    if shape == "rest":
        reply = host.request("DELETE", f"/project/{project}?grace_seconds=5")
    else:
        reply = host.request_json("POST", "/kill_project", {"project": project, "grace_seconds": 5})
    assert reply.status == 200, reply
    assert reply.json["status"] == "Successful"
    assert [entry["pid"] for entry in reply.json["killed"]] == [pid]


def test_restart(host: AgentHost, project: str) -> None:
    first = host.launch_fixture(project, "hello").json
    reply = host.request("POST", f"/project/{project}/restart")
    assert reply.status in (200, 201), reply
    status = host.wait_for_state(project, "ready")
    assert status["version"] == first["version"]
    assert status["pid"] != first["pid"]


def test_rollback(host: AgentHost, project: str) -> None:
    host.launch(project, artifact.pack("hello", host.artifacts), version="1")
    host.launch(project, artifact.pack("run_sh_only", host.artifacts), version="2")
    reply = host.request("POST", f"/project/{project}/rollback")
    assert reply.status in (200, 201), reply
    assert host.wait_for_state(project, "ready")["version"] == "1"


def test_history(launched: Tuple[AgentHost, str]) -> None:
    host, project = launched
    answer = host.request("GET", f"/project/{project}/history")
    assert answer.status == 200, answer
    assert [entry["event"] for entry in answer.json["history"]][:1] == ["launch"]


def test_health(host: AgentHost) -> None:
    answer = host.request("GET", "/healthz")
    assert answer.status == 200, answer


def test_everything_that_says_a_build_says_the_same(host: AgentHost, pyz: str) -> None:
    """The agent runs from a copy with bytecode; what counts is the file that was built and started."""
    digest = hashlib.sha256(Path(pyz).read_bytes()).hexdigest()
    installed = host.path("projects", AGENT, "releases", version_of(pyz), "ant-host-agent.pyz")
    copy = subprocess.run([host.python, "-I", installed, "version", "--json"], stdout=subprocess.PIPE, check=True)
    told = [
        host.request("GET", "/healthz").json,
        host.status(AGENT),
        json.loads(host.run("version", "--json").stdout),
        json.loads(copy.stdout),
    ]
    assert {(build["version"], build["digest"]) for build in told} == {(version_of(pyz), digest)}
    labels = f'{{version="{version_of(pyz)}",digest="{digest}"}}'
    assert f"ant_host_agent_info{labels} 1\n".encode() in host.request("GET", "/metrics").body
    assert digest.encode() in host.run("version").stdout


@pytest.mark.parametrize("key", [None, "0" * 64, "x"])
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/project"), ("POST", "/project"), ("DELETE", "/project/x"), ("GET", "/nowhere")]
)
def test_nobody_without_the_key_gets_further(host: AgentHost, method: str, path: str, key: str) -> None:
    refusal = host.request(method, path, key=key)
    assert refusal.status == 401, refusal
    assert refusal.headers["content-type"] == "application/problem+json"
    assert "Bearer" in refusal.headers["www-authenticate"]
    assert refusal.json["hint"]
