"""Logs lose no line, whatever is in it, and come as one tar."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Tuple

import pytest

from tests.support import artifact, http
from tests.support.agent import AgentHost
from tests.support.log_tar import members_of, output_of
from tests.support.wait import eventually

pytestmark = pytest.mark.e2e

FLOOD_LINES = 200_000
LINE_BYTES = len(b"line 0000001\n")


def flood(lines: int) -> bytes:
    """What floods_logs prints."""
    return b"".join(b"line %07d\n" % number for number in range(1, lines + 1)) + b"done\n"


def test_what_the_tar_holds(host: AgentHost, project: str) -> None:
    host.launch_fixture(project, "hello", version="1")
    host.wait_for_output(project, b"hello")
    members = host.logs(project)
    assert all(name.startswith(f"{project}/") for name in members)
    assert json.loads(members[f"{project}/record.json"])["project"] == project
    history = [json.loads(line) for line in members[f"{project}/history.jsonl"].splitlines()]
    assert [entry["event"] for entry in history] == ["launch"]
    assert json.loads(members[f"{project}/manifest.json"]) == {"version": "1"}
    assert output_of(project, members) == f"hello from {project} 1\n".encode()


def test_a_flood_over_many_segments_is_complete_and_in_order(host: AgentHost, project: str) -> None:
    host.launch_fixture(project, "floods_logs", env={"LINES": str(FLOOD_LINES)}, logs={"segment_bytes": 262144, "segments": 50})
    assert host.wait_for_output(project, b"done\n", 60) == flood(FLOOD_LINES)
    segments = [name for name in host.logs(project) if name.endswith(".log")]
    assert len(segments) >= FLOOD_LINES * LINE_BYTES // 262144
    assert segments == sorted(segments)


def test_the_cap_keeps_the_newest(host: AgentHost, project: str) -> None:
    host.launch_fixture(project, "floods_logs", env={"LINES": str(FLOOD_LINES)}, logs={"segment_bytes": 262144, "segments": 3})
    kept = host.wait_for_output(project, b"done\n", 60)
    assert 2 * 262144 <= len(kept) <= 3 * 262144
    assert flood(FLOOD_LINES).endswith(kept)


def test_a_tar_taken_amid_a_flood_is_whole(host: AgentHost, project: str) -> None:
    host.launch_fixture(project, "cron_like", env={"EVERY_SECONDS": "0"})
    for _ in range(5):
        lines = host.project_output(project).splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]
        assert whole == [b"wake %d: tweeted\n" % number for number in range(1, len(whole) + 1)]
        assert len(lines) - len(whole) <= 1


def test_bytes_come_back_as_they_are(host: AgentHost, project: str) -> None:
    host.launch_fixture(project, "raw_bytes")
    wanted = b"nul \0\0 invalid \377\376\300\257 cut \303\nover\rwritten\n\nno newline at the end"
    assert host.wait_for_output(project, b"the end") == wanted


def test_stdout_and_stderr_keep_their_order(host: AgentHost, project: str) -> None:
    script = b"#!/bin/sh\nfor i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done\nexec sleep 1000\n"
    host.launch(project, artifact.write(script, "sh", host.artifacts))
    wanted = b"".join(b"out %d\nerr %d\n" % (i, i) for i in range(1, 6))
    assert host.wait_for_output(project, b"err 5\n") == wanted


def test_the_last_words_are_kept(host: AgentHost, project: str) -> None:
    host.launch_fixture(project, "exits_cleanly")
    host.wait_for_state(project, "exited")
    assert host.project_output(project) == b"working\nfinished\n"


def test_logs_outlive_a_kill_and_a_new_release(host: AgentHost, project: str) -> None:
    host.launch(project, artifact.pack("hello", host.artifacts), version="1")
    host.wait_for_output(project, b"hello")
    host.kill(project)
    assert host.project_output(project) == f"hello from {project} 1\n".encode()
    host.launch(project, artifact.pack("run_sh_only", host.artifacts), version="2")
    host.wait_for_output(project, b"run.sh\n")
    assert host.project_output(project).splitlines() == [
        f"hello from {project} 1".encode(),
        f"hello from {project} 2 by run.sh".encode(),
    ]


def test_a_served_request_is_in_the_logs(host: AgentHost, project: str) -> None:
    port = http.free_port()
    host.launch_fixture(project, "serves_http", version="7", env={"PORT": str(port)})
    host.wait_for_output(project, b"ready on")
    answer = http.request(("127.0.0.1", port), "GET", "/some/path")
    assert answer.body == f"{project}/7".encode()
    host.wait_for_output(project, b"request /some/path\n")


def test_the_agent_s_own_logs(host: AgentHost) -> None:
    assert json.loads(host.logs("ant-host-agent")["ant-host-agent/record.json"])["state"] == "ready"


def test_an_unknown_project(host: AgentHost, project: str) -> None:
    refusal = host.request("GET", f"/project/{project}/logs")
    assert refusal.status == 404, refusal
    assert project in refusal.json["detail"]


def test_the_agent_s_key_is_in_no_tar(host: AgentHost, project: str) -> None:
    host.launch_fixture(project, "hello")
    body = host.request("GET", f"/project/{project}/logs").body
    assert members_of(body)
    assert host.token.encode() not in body


@pytest.mark.newest
@pytest.mark.parametrize("words", [(), ("--grep", "wake")])
def test_a_follower_goes_on_without_the_agent(own_host: AgentHost, words: Tuple[str, ...], tmp_path: Path) -> None:
    own_host.launch_fixture("ticks", "cron_like", env={"EVERY_SECONDS": "0.01"})
    read = tmp_path / "read"
    with read.open("wb") as file, (tmp_path / "said").open("wb") as said:
        command = own_host.command("logs", "ticks", "-f", "--store", own_host.store, *words)
        follower = subprocess.Popen(command, stdout=file, stderr=said)
        try:
            for disturb in (own_host.crash_agent, own_host.crash_agent, lambda: (own_host.stop(), own_host.start())):
                before = read.stat().st_size
                eventually(lambda size=before: read.stat().st_size > size, 60, "what comes is printed")
                disturb()
            before = read.stat().st_size
            eventually(lambda: read.stat().st_size > before, 60, "it goes on")
            assert own_host.kill("ticks", purge="true").status == 200
            assert follower.wait(120) == 4, "the project is gone"
        finally:
            follower.kill()
            follower.wait()
    lines = read.read_bytes().splitlines()
    assert lines == [b"wake %d: tweeted" % number for number in range(1, len(lines) + 1)]
    assert b"no project" in (tmp_path / "said").read_bytes()
