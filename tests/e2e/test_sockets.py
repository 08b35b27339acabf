"""A project whose sockets the shim holds is replaced without a failed request, whatever else happens."""

from __future__ import annotations

import os
import signal
import sys
from typing import Iterator, Tuple

import pytest

from tests.support.agent import AgentHost
from tests.support.http import Response, free_port, request
from tests.support.kernel import gives_descriptors
from tests.support.traffic import traffic
from tests.support.wait import eventually

pytestmark = pytest.mark.e2e

RATE = 300.0


@pytest.fixture
def web(pyz: str) -> Iterator[Tuple[AgentHost, int]]:
    """An agent of its own on the default Python with the project `web` at version 0, and its port."""
    port = free_port()
    with AgentHost(pyz, os.path.realpath(sys.executable)) as host:
        reply = launch(host, port, 0)
        assert reply.status == 201, reply
        yield host, port


def launch(host: AgentHost, port: int, version: int, **env: str) -> Response:
    address = f"127.0.0.1:{port}"
    readiness = {"http": f"http://{address}/", "timeout_seconds": 60 if env.get("BREAK") != "hang" else 2}
    return host.launch_fixture(
        "web", "serves_on_socket", version=str(version), sockets={"http": address}, readiness=readiness, env=env
    )  # fmt: skip


def served(port: int) -> str:
    return request(("127.0.0.1", port), "GET", "/").body.decode()


@pytest.mark.parametrize("times", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_no_request_fails_while_releases_change(web: Tuple[AgentHost, int], times: int) -> None:
    host, port = web
    with traffic(port, RATE) as seen:
        for version in range(1, times + 1):
            reply = launch(host, port, version)
            assert reply.status == 201, reply
            assert [step["name"] for step in reply.json["steps"]][-1] == "ready"
            eventually(lambda v=version: served(port).startswith(f"web/{v} "), message=f"{version} answers")  # type: ignore
        reply = launch(host, port, times + 1, BREAK="exit")
        assert (reply.status, reply.json["step"]) == (422, "ready"), reply
        assert host.request("POST", "/project/web/restart").status == 200
        assert host.request_json("POST", "/project/web/rollback", {"version": str(times - 1)}).status == 200
    assert seen.failures == []
    answered = {answer.split()[0] for answer in seen.answers}
    assert answered == {f"web/{version}" for version in range(times + 1)}, seen.answers
    print(f"{sum(seen.answers.values())} requests, {times + 2} replacements")


@pytest.mark.parametrize("how", ["exit", "hang"])
def test_a_bad_one_never_touches_the_old_one(web: Tuple[AgentHost, int], how: str) -> None:
    host, port = web
    before = host.status("web")
    reply = launch(host, port, 1, BREAK=how)
    assert (reply.status, reply.json["step"]) == (422, "ready"), reply
    assert reply.json["running"] == {"version": "0", "pid": before["pid"], "state": "ready"}
    assert "0 runs on" in reply.json["detail"]
    assert served(port) == f"web/0 {before['pid']}"
    eventually(lambda: len(host.project_processes("web")) == 1, message=lambda: str(host.project_processes("web")))
    assert not os.path.exists(host.path("projects", "web", "releases", "1"))
    eventually(lambda: host.status("web")["crash"], message="a capsule")
    crash = host.status("web")["crash"]
    assert (crash["version"], len(crash["digest"])) == ("1", 64), crash
    assert {"BREAK", "PATH"} <= set(crash["environment"])


@pytest.mark.parametrize("victim", ["agent", "shim"])
def test_after_a_death_it_goes_on(web: Tuple[AgentHost, int], victim: str) -> None:
    host, port = web
    before = host.status("web")
    with traffic(port, RATE) as seen:
        if victim == "agent":
            host.crash_agent()
        else:
            dead = host.crash_shim("web")
            eventually(lambda: (host.record("web")["shim"] or {}).get("pid") != dead.pid, message="another shim")
        assert host.status("web")["pid"] == before["pid"]
        reply = launch(host, port, 1)
        assert reply.status == 201, reply
        eventually(lambda: served(port).startswith("web/1 "), message="1 answers")
    if victim == "agent" or gives_descriptors():  # else the new shim has to bind anew, and for a moment nobody listens
        assert seen.failures == []


def test_a_taken_port_is_refused_before_anything_changes(web: Tuple[AgentHost, int]) -> None:
    host, port = web
    before = host.status("web")
    other = host.launch_fixture("other", "serves_on_socket", version="1", sockets={"http": f"127.0.0.1:{port}"})
    assert (other.status, other.json["step"], other.json["field"]) == (409, "sockets", "sockets.http"), other
    assert f"127.0.0.1:{port} is taken by process " in other.json["detail"]
    assert host.request("GET", "/project/other").status == 404
    after = host.status("web")
    assert (after["pid"], after["state"]) == (before["pid"], "ready")


def test_a_crash_refuses_no_connection(web: Tuple[AgentHost, int]) -> None:
    host, port = web
    pid = host.status("web")["pid"]
    os.kill(pid, signal.SIGKILL)
    answer = served(port)  # waits in the backlog of the socket that the shim holds
    assert answer.startswith("web/0 ") and answer != f"web/0 {pid}"
