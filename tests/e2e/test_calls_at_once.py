"""Two calls on one project at a time: each is answered as if they had come one after the other."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

from tests.support import artifact, bundles
from tests.support.agent import AgentHost
from tests.support.http import Response
from tests.support.wait import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.newest]

#: An agent that waits, with an outcome that is known and not concluded, for as long as a file of the project says so.
WAITS = b"""    while os.path.exists(handle.layout.data + "/wait"):
        time.sleep(0.01)
    conclude_later_if_need_be(agent, handle)
    now ="""
CONCLUDES = b"    conclude_later_if_need_be(agent, handle)\n    now ="
IMPORTS = b"from dataclasses import replace\n"


@pytest.fixture
def waiting(pyz: str, python: str, tmp_path: Path) -> Iterator[AgentHost]:
    member = "agent/operations/outcome.py"
    changes = (member, CONCLUDES, WAITS), (member, IMPORTS, b"import os, time\n" + IMPORTS)
    # its reconcile loop would conclude meanwhile
    seldom = ("agent/operations/reconcile.py", b"INTERVAL_SECONDS = 2.0", b"INTERVAL_SECONDS = 2000.0")
    with AgentHost(bundles.release(pyz, str(tmp_path), "waiting", *changes, seldom), python) as host:
        yield host


def called(call: Callable[[], Response]) -> Callable[[], Response]:
    """The call is under way; its answer, to be waited for."""
    answers: List[Response] = []
    caller = threading.Thread(target=lambda: answers.append(call()))
    caller.start()

    def answer() -> Response:
        caller.join()
        return answers[0]

    return answer


def held(host: AgentHost, project: str) -> str:
    """The path of a file of the project's that something waits for or with."""
    os.makedirs(host.path("projects", project, "data"), exist_ok=True)
    return host.path("projects", project, "data", "wait")


def touch(path: str) -> None:
    with open(path, "w", encoding="ascii"):
        pass


def test_a_restart_beside_the_first_launch_is_told_of_it(host: AgentHost, project: str) -> None:
    readiness = {"file": held(host, project), "timeout_seconds": 600}
    launched = called(lambda: host.launch_fixture(project, "hello", readiness=readiness))
    try:
        eventually(lambda: host.request("GET", f"/project/{project}").status == 200, 30, "the launch is under way")
        for verb in ("restart", "rollback"):
            refused = host.request("POST", f"/project/{project}/{verb}")
            assert refused.status == 409 and refused.json["under_way"] is True, refused
    finally:
        touch(held(host, project))
        assert launched().status == 201


def test_what_was_killed_as_soon_as_it_was_ready_is_brought_back_by_a_restart(waiting: AgentHost) -> None:
    touch(held(waiting, "web"))
    launched = called(lambda: waiting.launch_fixture("web", "hello", version="1"))

    def outcome() -> Any:
        return os.path.exists(waiting.path("projects", "web", "record.json")) and waiting.record("web")["outcome"]

    try:
        assert eventually(outcome, 30, "the outcome")["ready"]
        assert waiting.kill("web").json["status"] == "Successful"
    finally:
        os.unlink(held(waiting, "web"))
    assert launched().status == 201
    again = waiting.request("POST", "/project/web/restart")
    assert (again.status, again.json.get("version")) == (200, "1"), again


def test_what_is_started_again_does_not_pass_for_the_release_that_is_prepared(host: AgentHost, project: str) -> None:
    restart = {"delay_seconds": 2, "max_delay_seconds": 2}
    old = host.launch_fixture(project, "hello", version="old", restart=restart).json["pid"]
    os.kill(old, 9)
    host.wait_for_state(project, "backoff", deadline_seconds=30)
    hook = f"while ! [ -e '{held(host, project)}' ]; do sleep 0.05; done"
    path = artifact.pack("hello", host.artifacts, manifest={"before_launch": [hook]})
    launched = called(lambda: host.launch(project, path, version="new"))
    try:
        host.wait_for_state(project, "ready", deadline_seconds=30)
    finally:
        touch(held(host, project))
    assert launched().json["status"] == "LaunchSuccessful"
    status = host.status(project)
    assert (status["version"], status["state"]) == ("new", "ready")
