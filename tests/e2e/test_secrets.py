"""Secrets: set by a call, read by the project's user, and nowhere to be seen otherwise. Nor is a key."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import re
import subprocess
import tarfile
from io import BytesIO
from typing import Dict, Iterator, Tuple

import pytest

from agent.web.routes import ROUTES
from tests.support import processes
from tests.support.agent import AgentHost
from tests.support.http import Response

pytestmark = [pytest.mark.e2e, pytest.mark.newest]

CANARY = b"canary-6f1d0a9c52e84b7d"
DIGEST = hashlib.sha256(CANARY).hexdigest()
#: What the canaries may look like where something encodes or cuts them.
PIECE = CANARY[8:24]


def own_user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def test_a_launch_names_what_is_missing_and_then_runs_with_it(host: AgentHost, project: str) -> None:
    refused = host.launch_fixture(project, "reads_secrets", secrets=["jwt", "db"])
    assert refused.status == 422, refused
    assert (refused.json["step"], refused.json["missing"]) == ("secrets", ["jwt", "db"])
    assert f"PUT /project/{project}/secrets/jwt" in refused.json["hint"]
    assert project not in host.projects() and not os.path.exists(host.path("projects", project))
    assert host.request("GET", f"/project/{project}/secrets").status == 404
    for name, status in (("jwt", 201), ("db", 201), ("jwt", 200)):
        answer = host.request("PUT", f"/project/{project}/secrets/{name}", CANARY)
        assert (answer.status, answer.json["name"]) == (status, name)
    assert project not in host.projects()
    refused = host.launch_fixture(project, "reads_secrets", secrets=["jwt", "tls.key"])
    assert refused.json["missing"] == ["tls.key"], "and what is set stays set"
    assert host.request("GET", f"/project/{project}/secrets").json == {"project": project, "secrets": ["db", "jwt"]}

    assert host.launch_fixture(project, "reads_secrets").status == 201
    output = host.wait_for_output(project, b"looked").decode().splitlines()
    owned = f"600 {own_user()} {DIGEST}"
    assert output == [f"folder 700 {own_user()}", f"secret db {owned}", f"secret jwt {owned}", "looked"]

    gone = host.request("DELETE", f"/project/{project}/secrets/jwt")
    assert gone.status == 200 and "can't be launched again" in gone.json["warnings"][0]
    assert host.request("DELETE", f"/project/{project}/secrets/jwt").status == 404
    assert host.request("POST", f"/project/{project}/restart").json["missing"] == ["jwt"]
    assert host.status(project)["state"] == "ready", "and what runs runs on"


def test_secrets_of_what_was_never_launched_leave_nothing(host: AgentHost, project: str) -> None:
    assert host.request("PUT", f"/project/{project}/secrets/a", CANARY).status == 201
    assert host.request("DELETE", f"/project/{project}/secrets/a").status == 200
    assert not os.path.exists(host.path("projects", project))


@pytest.mark.needs_root
def test_they_belong_to_the_project_s_user_whenever_they_are_set(host: AgentHost, project: str) -> None:
    host.request("PUT", f"/project/{project}/secrets/jwt", CANARY)
    assert host.launch_fixture(project, "reads_secrets", user="nobody").status == 201
    output = host.wait_for_output(project, b"looked").decode()
    assert f"folder 700 nobody\nsecret jwt 600 nobody {DIGEST}\n" in output
    host.request("PUT", f"/project/{project}/secrets/later", CANARY)
    status = os.stat(host.path("projects", project, "secrets", "later"))
    assert (status.st_uid, status.st_mode & 0o777) == (pwd.getpwnam("nobody").pw_uid, 0o600)
    assert host.request("GET", f"/project/{project}/secrets").json["secrets"] == ["jwt", "later"]


def test_the_command_line(own_host: AgentHost) -> None:
    def run(*words: str, value: bytes = b"") -> Tuple[int, bytes]:
        done = subprocess.run(
            own_host.command("secrets", *words, "--store", own_host.store), input=value, capture_output=True, check=False
        )
        assert PIECE not in done.stdout + done.stderr
        return done.returncode, done.stdout

    assert run("set", "web", "jwt", value=CANARY) == (0, b"web has jwt; what runs already sees it, too.\n")
    assert own_host.read("projects", "web", "secrets", "jwt") == CANARY
    assert run("list", "web") == (0, b"jwt\n")
    assert run("delete", "web", "jwt") == (0, b"web has no jwt any more.\n")
    assert run("delete", "web", "jwt")[0] == 4


def answers(host: AgentHost, project: str) -> Iterator[Tuple[str, Response]]:
    """Every call that answers, made well and made badly."""
    for route in ROUTES:
        path = re.sub("<project>", project, route.path).replace("<name>", "jwt")
        queries = [""] if route.name != "logs" else ["", "?format=text", "?format=text&tail=0x"]
        for query in queries if route.method == "GET" else []:
            yield path + query, host.request("GET", path + query)
    for method, path, body, kind in (
        ("PUT", f"/project/{project}/secrets/..", CANARY, "text/plain"),
        ("PUT", f"/project/{project}/secrets/jwt", CANARY * 9000, "text/plain"),
        ("PUT", f"/project/{project}/secrets/jwt", json.dumps({"value": [CANARY.decode()]}).encode(), "application/json"),
        ("PUT", f"/project/{project}/secrets/jwt", b'{"value": "' + CANARY, "application/json"),
        ("POST", f"/project/{project}/secrets/jwt", CANARY, "text/plain"),
        ("POST", f"/project/{project}/restart", None, ""),
        ("POST", f"/project/{project}/rollback", b"{}", "application/json"),
        ("DELETE", f"/project/{project}", None, ""),
    ):  # fmt: skip
        yield f"{method} {path}", host.request(method, path, body, {"Content-Type": kind} if kind else {})


def seen_in(host: AgentHost, needles: Tuple[bytes, ...]) -> Dict[str, bytes]:
    """Where any of the needles is: files of the store (but where they belong), command lines and environments of this
    host's processes, what the agent prints."""
    texts: Dict[str, bytes] = {"output": host.output().encode()}
    for folder, _, names in os.walk(host.store):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    texts[os.path.relpath(path, host.store)] = file.read()
    own = host.project_processes("with-secret")
    for process in host.processes():
        for kind in ("cmdline", "environ"):
            with open(f"/proc/{process.pid}/{kind}", "rb") as file:
                texts[f"{kind} of {process}"] = file.read()
    assert own and any(name.startswith("cmdline") for name in texts)
    found = {name: text for name, text in texts.items() if any(needle in text for needle in needles)}
    return {name: text for name, text in found.items() if name != "token" and "/secrets/" not in name}


def test_t10_a_canary_key_and_a_canary_secret_are_nowhere(own_host: AgentHost) -> None:
    host = own_host
    deploy = subprocess.run(
        host.command("token", "add", "ci", "--role", "deploy", "--store", host.store), capture_output=True, check=True
    ).stdout.strip()
    needles = (PIECE, deploy[-32:], host.token[:32].encode())
    assert host.launch_fixture("other", "prints_environment").status == 201
    for name in ("jwt", "db"):
        assert host.request("PUT", f"/project/with-secret/secrets/{name}", CANARY, key=deploy.decode()).status == 201
    assert host.launch_fixture("with-secret", "reads_secrets").status == 201
    host.wait_for_output("with-secret", b"looked")
    assert host.request("GET", "/project", key="wrong-" + CANARY.decode()).status == 401
    assert seen_in(host, needles) == {}
    for path, answer in answers(host, "with-secret"):
        text = repr(answer).encode() + answer.body
        assert not any(needle in text for needle in needles), path
    tar = host.request("GET", "/project/with-secret/logs").body
    with tarfile.open(fileobj=BytesIO(tar)) as archive:
        assert not any("secrets" in name for name in archive.getnames())
    for project in ("other", "ant-host-agent"):
        assert not any(needle in content for content in host.logs(project).values() for needle in needles), project
    assert host.launch_fixture("with-secret", "reads_secrets").status == 201
    assert seen_in(host, needles) == {}
    assert processes.environment(host.project_processes("with-secret")[0].pid)["SECRETS_DIR"].endswith("/with-secret/secrets")
