"""Wherever a launch fails, or its agent is killed: what ran runs on, nothing is half done, and the same call again does it."""

from __future__ import annotations

import json
import os
import threading
from http.client import HTTPException
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import pytest

from tests.conftest import NEWEST, find_interpreters
from tests.support import artifact, bundles, http
from tests.support.agent import AgentHost
from tests.support.wait import eventually

pytestmark = pytest.mark.e2e

SHAPES = ("first", "replacement", "with-sockets")
#: Points at which the release itself is not touched yet: the old run goes on under the same pid.
BEFORE_THE_SWITCH = ("download", "digest", "unpack", "manifest", "commit", "secrets", "before_launch", "migrations")
FAILING = (*BEFORE_THE_SWITCH, "start", "ready")
#: Where the agent of these tests dies: at the end of a step of its own, or while the shim is at one.
OWN_STEPS = ("receive", "unpack", "commit", "start")
SHIM_STEPS = ("before_launch", "ready")

#: Injected where each step of a launch is noted: kill -9 of the agent, once, where a file asks for it.
DIE = b"""        wish = f"{os.environ['PERSIST_DIR']}/die-{name}"
        if os.path.exists(wish):
            os.unlink(wish)
            os.kill(os.getpid(), 9)
"""
STEP_IS_DONE = b'        self.done.append({"name": name'


@pytest.fixture(scope="module")
def mortal(pyz: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentHost]:
    """An agent, on the newest Python, that dies where it is told to, and comes back without a longer and longer pause."""
    dies = ("agent/operations/launch.py", STEP_IS_DONE, DIE + STEP_IS_DONE)
    is_back_at_once = ("agent/operations/own.py", b'RestartPolicy("always", 0.05, 5.0,', b'RestartPolicy("always", 0.05, 0.05,')
    path = bundles.release(pyz, str(tmp_path_factory.mktemp("mortal")), "mortal", dies, is_back_at_once)
    with AgentHost(path, list(find_interpreters(NEWEST).values())[-1]) as host:
        yield host


class Case:
    """One project in one of the shapes, the old release of which, if any, is at work."""

    def __init__(self, host: AgentHost, project: str, shape: str) -> None:
        self.host, self.project = host, project
        self.sockets = {"sockets": {"http": f"127.0.0.1:{http.free_port()}"}} if shape == "with-sockets" else {}
        self.old: Optional[int] = None
        if shape != "first":
            reply = host.launch(project, self.pack({}), version="old")
            assert reply.status == 201, reply
            self.old = reply.json["pid"]

    def pack(self, manifest: Dict[str, Any], files: Optional[Dict[str, str]] = None) -> str:
        readiness = {"command": "true", "timeout_seconds": 60}
        document = {"readiness": readiness, "stop": {"grace_seconds": 1}, **self.sockets, **manifest}
        members = {"run.sh": (b"#!/bin/sh\nexec sleep 1000000\n", 0o755), "anthill.json": (json.dumps(document).encode(), 0o644)}
        members.update({name: (text.encode(), 0o644) for name, text in (files or {}).items()})
        return artifact.write(artifact.encode(members, "tar.gz"), f"{self.project}.tar.gz", self.host.artifacts)

    def path(self, *parts: str) -> Path:
        return Path(self.host.path("projects", self.project, *parts))

    def assert_as_before(self, same_pid: bool) -> None:
        """The old release runs and there is no other; or, before any, there is nothing."""
        if self.old is None:
            assert self.host.project_processes(self.project) == []
            answer = self.host.request("GET", f"/project/{self.project}")
            assert answer.status == 404 or (answer.json["want"], answer.json["pid"]) == ("down", None), answer
        else:
            status = self.host.wait_for_state(self.project, "ready", deadline_seconds=60)
            assert status["version"] == "old" and (status["pid"] == self.old) >= same_pid, status
            eventually(lambda: len(self.host.project_processes(self.project)) == 1, 60, lambda: str(self.processes()))
        eventually(lambda: self.host.staging() == [], 60, lambda: str(self.host.staging()))
        assert self.releases() == ([] if self.old is None else ["old", "old.json"])

    def processes(self) -> List[Any]:
        return self.host.project_processes(self.project)

    def releases(self) -> List[str]:
        return sorted(os.listdir(self.path("releases"))) if self.path("releases").exists() else []


@pytest.fixture
def case(mortal: AgentHost, request: pytest.FixtureRequest) -> Iterator[Case]:
    point, shape = request.param
    made = Case(mortal, f"{point.replace('_', '-')}-{shape}", shape)
    yield made
    mortal.kill(made.project, grace_seconds=0, purge="true")


def fail_at(case: Case, point: str) -> http.Response:
    """The answer to a launch of version `new` that can't get further than this."""
    manifests: Dict[str, Dict[str, Any]] = {
        "manifest": {"stop": {"grace_seconds": "soon"}},
        "secrets": {"secrets": ["jwt"]},
        "before_launch": {"before_launch": ["echo it hooks; exit 3"]},
        "migrations": {"migrations": {"database": "sqlite:data/app.db"}},
        "start": {"before_launch": ["rm run.sh"]},
        "ready": {"readiness": {"command": "echo not yet; false", "timeout_seconds": 0.5}},
    }
    path = case.pack(manifests.get(point, {}), {"migrations/1.sql": "CREATE TABLE;"})
    values: Dict[str, object] = {"version": "new"}
    if point == "download":
        url = f"http://127.0.0.1:{http.free_port()}/a.tgz"
        document = {"project": case.project, "artifact_url": url, "sha256": artifact.digest(path), **values}
        return case.host.request_json("POST", "/project", document)
    if point == "digest":
        values["sha256"] = "0" * 64
    if point == "unpack":
        os.truncate(path, os.path.getsize(path) // 2)
    if point == "commit" and case.old is not None:
        values["version"] = "old"  # which is taken
    return case.host.launch(case.project, path, **values)


@pytest.mark.parametrize(
    ("case", "point"),
    [((point, shape), point) for point in FAILING for shape in SHAPES if (point, shape) != ("commit", "first")],
    indirect=["case"], ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_a_launch_that_fails(case: Case, point: str) -> None:
    refusal = fail_at(case, point)
    assert refusal.status == (409 if point == "commit" else 422), refusal
    problem = refusal.json
    assert problem["step"] == point and problem["project"] == case.project and problem["hint"], refusal
    running = problem["running"]
    assert (running and running["version"]) == (None if case.old is None else "old"), refusal
    is_untouched = point in BEFORE_THE_SWITCH or bool(case.sockets)
    if is_untouched and case.old is not None:
        assert running == {"version": "old", "pid": case.old, "state": "ready"}
    if point in ("before_launch", "ready", "start"):
        assert problem["exit_cause"]["text"] and isinstance(problem["log_tail"], list)
    if point == "before_launch":
        assert problem["log_tail"] == ["it hooks"]
    if point == "ready":
        assert problem["readiness"]["body"] == "not yet\n"
    case.assert_as_before(is_untouched)


def call(case: Case, path: str) -> Tuple[Optional[http.Response], str]:
    """The answer, or how the connection ended without one."""
    try:
        return case.host.launch(case.project, path, version="new"), ""
    except (OSError, HTTPException) as error:
        return None, repr(error)


@pytest.mark.parametrize(
    ("case", "point"), [((f"killed-{point}", shape), point) for point in (*OWN_STEPS, *SHIM_STEPS) for shape in SHAPES],
    indirect=["case"], ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_the_agent_is_killed_at_that_very_point(case: Case, point: str) -> None:
    wait = 'touch "$PERSIST_DIR/there"; while ! test -e "$PERSIST_DIR/go"; do sleep 0.02; done'
    how: Dict[str, Dict[str, Any]] = {
        "before_launch": {"before_launch": [wait]},
        "ready": {"readiness": {"command": wait, "timeout_seconds": 300}},
    }
    path = case.pack(how.get(point, {}))
    agent = case.host.agent_pid
    if point in OWN_STEPS:
        Path(case.host.path("projects", "ant-host-agent", "data", f"die-{point}")).touch()
        answer, lost = call(case, path)
    else:
        answers: List[Tuple[Optional[http.Response], str]] = []
        caller = threading.Thread(target=lambda: answers.append(call(case, path)))
        caller.start()
        eventually(case.path("data", "there").exists, 60, "the shim is at it")
        case.host.crash_agent()
        caller.join()
        ((answer, lost),) = answers
        case.path("data", "go").touch()
    assert answer is None and lost, f"the agent answered: {answer}"
    again = case.host.launch(case.project, path, version="new")
    assert again.status in (200, 201), again
    assert case.host.agent_pid != agent
    status = case.host.wait_for_state(case.project, "ready", deadline_seconds=60)
    assert (status["version"], status["want"]) == ("new", "up")
    eventually(lambda: [found.pid for found in case.processes()] == [status["pid"]], 60, lambda: str(case.processes()))
    eventually(lambda: case.host.staging() == [], 60, lambda: str(case.host.staging()))
    kept = ["new", "new.json"] if case.old is None else ["new", "new.json", "old", "old.json"]
    assert case.releases() == kept and os.readlink(case.path("current")) == "releases/new"


@pytest.mark.parametrize(
    "case", [("cancelled", shape) for shape in SHAPES], indirect=True, ids="-".join
)  # fmt: skip
def test_a_second_launch_is_told_of_the_first_and_a_kill_cancels_it(case: Case) -> None:
    path = case.pack({"before_launch": ['touch "$PERSIST_DIR/there"; sleep 1000000']})
    answers: List[http.Response] = []
    caller = threading.Thread(target=lambda: answers.append(case.host.launch(case.project, path, version="new")))
    caller.start()
    eventually(case.path("data", "there").exists, 60, "the hook runs")
    second = case.host.launch(case.project, path, version="new")
    assert (second.status, second.json["what"], second.json["by"]) == (409, "launch", "admin from 127.0.0.1"), second
    assert second.json["since"] in second.json["detail"] and second.json["running"] == (
        None if case.old is None else {"version": "old", "pid": case.old, "state": "ready"}
    )
    killed = case.host.kill(case.project)
    caller.join()
    assert (killed.status, killed.json["cancelled"]) == (200, "new"), killed
    assert case.old is None or case.old in [entry["pid"] for entry in killed.json["killed"]]
    assert (answers[0].status, answers[0].json["step"]) == (409, "cancelled"), answers
    assert "a kill by admin from 127.0.0.1 ended this launch of new" in answers[0].json["detail"]
    assert case.processes() == [] and case.host.status(case.project)["want"] == "down"
