"""What ends by itself comes back with backoff, and status says why and when."""

from __future__ import annotations

import datetime

import pytest

from tests.support.agent import AgentHost
from tests.support.wait import eventually

pytestmark = pytest.mark.e2e


def test_a_crash_is_followed_by_another_run(host: AgentHost, project: str) -> None:
    first = host.launch_fixture(project, "crash_loop").json["pid"]
    eventually(lambda: host.status(project)["restarts"] >= 1, 10, "a restart")
    assert host.status(project)["pid"] != first
    host.wait_for_output(project, f"alive as {first}\ncrashing\nalive as ".encode())
    assert host.status(project)["exit_cause"]["code"] == 3


def test_backoff_tells_cause_and_next_start(host: AgentHost, project: str) -> None:
    host.launch_fixture(project, "crash_loop", restart={"delay_seconds": 1000, "max_delay_seconds": 1000})
    status = host.wait_for_state(project, "backoff")
    assert status["pid"] is None
    assert status["exit_cause"]["text"] == "exited with code 3"
    assert "exited with code 3" in status["explanation"]
    assert "1000" in status["explanation"]
    due = datetime.datetime.fromisoformat(status["next_start_at"].replace("Z", "+00:00"))
    ended = datetime.datetime.fromisoformat(status["exits"][-1]["at"].replace("Z", "+00:00"))
    assert (due - ended).total_seconds() == pytest.approx(1000, abs=30)
    assert host.project_processes(project) == []


def test_a_crash_loop_is_named(host: AgentHost, project: str) -> None:
    restart = {"delay_seconds": 0.01, "max_delay_seconds": 0.1}
    reply = host.launch_fixture(project, "crash_loop", env={"CRASH_AFTER_SECONDS": "1.1"}, restart=restart)
    assert reply.status == 201, reply
    eventually(lambda: "crash loop" in host.status(project)["explanation"], 30, lambda: str(host.status(project)))


def test_a_clean_end_is_left_at_that(host: AgentHost, project: str) -> None:
    host.launch_fixture(project, "exits_cleanly")
    status = host.wait_for_state(project, "exited")
    assert status["exit_cause"]["code"] == 0
    assert "on-failure" in status["explanation"]
    assert (status["pid"], status["next_start_at"], status["restarts"]) == (None, None, 0)
    assert host.project_processes(project) == []


def test_never_means_never(host: AgentHost, project: str) -> None:
    host.launch_fixture(project, "crash_loop", restart={"policy": "never"})
    status = host.wait_for_state(project, "failed", "exited")
    assert status["exit_cause"]["code"] == 3
    assert host.project_output(project).count(b"alive as") == 1
