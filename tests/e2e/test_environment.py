"""A project gets a clean start: its own environment, descriptors, signals and session, and nothing of the agent's."""

from __future__ import annotations

import json
import os
from typing import Any, Dict

import pytest

from tests.support import artifact, processes
from tests.support.agent import AgentHost

pytestmark = pytest.mark.e2e

OWN = {"PATH", "HOME", "LANG", "TZ", "USER", "PROJECT", "VERSION", "PERSIST_DIR", "SECRETS_DIR", "RELEASE_DIR"}


def inherited(host: AgentHost, project: str) -> Dict[str, Any]:
    document: Dict[str, Any] = json.loads(host.wait_for_output(project, b"\n").splitlines()[-1])
    return document


def launch_members(host: AgentHost, project: str, members: Dict[str, artifact.Member]) -> None:
    members = {**artifact.read_project("prints_environment"), **members}
    path = artifact.write(artifact.encode(members, "tar"), "tar", host.artifacts)
    reply = host.launch(project, path, version="1")
    assert reply.status == 201, reply


def test_what_is_in_it(host: AgentHost, project: str) -> None:
    launch_members(host, project, {})
    found = inherited(host, project)
    root = host.path("projects", project)
    assert set(found["env"]) == OWN
    assert found["env"]["PROJECT"] == project
    assert found["env"]["VERSION"] == "1"
    assert found["env"]["PERSIST_DIR"] == f"{root}/data"
    assert found["env"]["SECRETS_DIR"] == f"{root}/secrets"
    assert found["env"]["RELEASE_DIR"] == f"{root}/releases/1" == found["cwd"]
    assert os.path.isdir(found["env"]["PERSIST_DIR"])
    assert found["umask"] == 0o022
    assert found["blocked_signals"] == 0
    assert found["pid"] == found["session"] == found["process_group"]


def test_the_artifact_adds_to_it(host: AgentHost, project: str) -> None:
    manifest = {"env": {"BOTH": "of the manifest", "MANIFEST": "1", "PROJECT": "an impostor"}}
    dotenv = b"# a comment\nBOTH=of .env\nDOTENV='a b'\n"
    launch_members(host, project, {"anthill.json": (json.dumps(manifest).encode(), 0o644), ".env": (dotenv, 0o644)})
    env = inherited(host, project)["env"]
    assert set(env) == OWN | {"BOTH", "MANIFEST", "DOTENV"}
    assert (env["BOTH"], env["DOTENV"], env["PROJECT"]) == ("of the manifest", "a b", project)


def test_only_the_standard_descriptors(host: AgentHost, project: str) -> None:
    launch_members(host, project, {})
    fifo = host.path("projects", project, "log.fifo")
    assert inherited(host, project)["fds"] == {"0": "/dev/null", "1": fifo, "2": fifo}


def test_no_signal_is_ignored_or_blocked(host: AgentHost, project: str) -> None:
    # not by a Python program: CPython itself ignores SIGPIPE and SIGXFSZ
    pid = host.launch_fixture(project, "hello").json["pid"]
    status = processes.status(pid)
    assert {name: int(status[name], 16) for name in ("SigIgn", "SigBlk")} == {"SigIgn": 0, "SigBlk": 0}


def test_data_survives_releases(host: AgentHost, project: str) -> None:
    for version in ("1", "2"):
        note = f'echo {version} >>"$PERSIST_DIR/seen"; echo seen $(cat "$PERSIST_DIR/seen")'
        path = artifact.write(f"#!/bin/sh\n{note}\nexec sleep 1000\n".encode(), "sh", host.artifacts)
        assert host.launch(project, path, version=version).status == 201
    host.wait_for_output(project, b"seen 1 2\n")
