"""Each verb of the command line against a scripted agent: the call, the sentence, the exit code."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from agent import __main__ as entry
from agent.errors import AgentError, ArtifactFault, Busy, NotFound

LAUNCHED = {
    "status": "LaunchSuccessful", "project": "web", "version": "1", "pid": 7, "state": "ready", "replaced": None,
    "warnings": [], "steps": [{"name": "receive", "seconds": 0.25}],
}  # fmt: skip
PROJECTS: List[Dict[str, Any]] = [{"project": "web", "version": "1", "state": "ready", "pid": 7, "restarts": 0}]
PROJECTS[0].update(uptime_seconds=61.5, explanation="it runs")

Run = Callable[..., Tuple[int, str, str]]


@pytest.fixture
def run(httpserver: HTTPServer, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run the command line against the scripted agent: exit code, stdout, stderr."""

    def running(*words: str) -> Tuple[int, str, str]:
        code = entry.main([*words, "--url", httpserver.url_for(""), "--token", "key"])
        shown = capfdbinary.readouterr()
        return code, shown.out.decode(), shown.err.decode()

    return running


def refusal(error: AgentError) -> Response:
    return Response(json.dumps(error.to_problem()), error.status, content_type="application/problem+json")


def log_tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(mode="w", fileobj=file) as tar:
        member = tarfile.TarInfo("web/logs/output-00000001.log")
        member.size = 6
        tar.addfile(member, io.BytesIO(b"hello\n"))
    return file.getvalue()


def test_ping(httpserver: HTTPServer, run: Run) -> None:
    httpserver.expect_request("/ping").respond_with_data("pong")
    code, out, err = run("ping")
    assert (code, err) == (0, "")
    assert out.startswith("pong from http://")


def test_launch_of_a_folder_sends_it_as_a_tar(httpserver: HTTPServer, run: Run, tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    names: List[str] = []

    def launch(request: Request) -> Response:
        with tarfile.open(fileobj=io.BytesIO(request.get_data())) as tar:
            names.extend(tar.getnames())
        assert request.headers["Authorization"] == "Bearer key"
        return Response(json.dumps(LAUNCHED), 201, content_type="application/json")

    httpserver.expect_request("/project", method="POST").respond_with_handler(launch)
    code, out, err = run("launch", "web", str(tmp_path))
    assert (code, out, err) == (0, "web 1 is up (ready, pid 7).\n  receive  0.250 s\n", "")
    assert names == ["run.sh"]


@pytest.mark.parametrize(
    ("error", "code"),
    [(ArtifactFault("It exited.", "Look.", log_tail=["boom"]), 5), (Busy("Too many.", log_tail=["boom"]), 6)],
)
def test_a_failed_launch_shows_why(httpserver: HTTPServer, run: Run, tmp_path: Path, error: AgentError, code: int) -> None:
    (tmp_path / "a").write_bytes(b"x")
    httpserver.expect_request("/project").respond_with_response(refusal(error))
    assert run("launch", "web", str(tmp_path / "a")) == (code, "", entry.explain(error))
    assert "  | boom\n" in entry.explain(error)
    failed, out, err = run("launch", "web", str(tmp_path / "a"), "--json")
    assert (failed, json.loads(out), err) == (code, error.to_problem(), "")


def test_kill_lists_what_it_killed(httpserver: HTTPServer, run: Run) -> None:
    killed = [{"pid": 7, "command": "sh run.sh", "signal": "SIGTERM"}, {"pid": 88, "command": "x", "signal": "SIGKILL"}]
    reply = {"status": "Successful", "killed": killed, "survivors": []}
    query = {"grace_seconds": "2", "purge": "true"}
    httpserver.expect_request("/project/web", method="DELETE", query_string=query).respond_with_json(reply)
    code, out, _ = run("kill", "web", "--grace-seconds", "2", "--purge")
    assert (code, out) == (0, "web is down; 2 processes ended:\n  7   SIGTERM  sh run.sh\n  88  SIGKILL  x\n")


@pytest.mark.parametrize(
    ("reply", "code", "said"),
    [
        ({"status": "NothingToKill"}, 0, "web was not running"),
        ({"status": "Failed", "killed": [], "survivors": [{"pid": 9, "command": "x"}]}, 1, "9  SURVIVED  x"),
    ],
)
def test_kill_of_nothing_and_of_a_survivor(httpserver: HTTPServer, run: Run, reply: Dict[str, Any], code: int, said: str) -> None:
    httpserver.expect_request("/project/web", method="DELETE").respond_with_json(reply)
    exited, out, _ = run("kill", "web")
    assert exited == code
    assert said in out


def test_status_of_all_and_of_one(httpserver: HTTPServer, run: Run) -> None:
    httpserver.expect_request("/project").respond_with_json({"projects": PROJECTS})
    httpserver.expect_request("/project/web").respond_with_json(PROJECTS[0])
    httpserver.expect_request("/project/other").respond_with_response(refusal(NotFound("No project 'other'.")))
    code, out, _ = run("status")
    assert (code, out.splitlines()[1]) == (0, "web\t1\tready\t7\t1 min 1 s\t0\tit runs")
    code, out, _ = run("status", "web")
    assert (code, out.splitlines()[0]) == (0, "web is ready: it runs")
    code, out, _ = run("--json", "status", "web")
    assert (code, json.loads(out)) == (0, PROJECTS[0])
    assert run("status", "other")[0] == 4


@pytest.mark.parametrize(
    ("words", "body"),
    [(["restart"], ""), (["rollback"], "{}"), (["rollback", "--version", "1"], '{"version": "1"}')],
)
def test_restart_and_rollback(httpserver: HTTPServer, run: Run, words: List[str], body: str) -> None:
    httpserver.expect_request(f"/project/web/{words[0]}", method="POST", data=body).respond_with_json(LAUNCHED)
    code, out, _ = run(*words, "web")
    assert code == 0
    assert out.startswith("web 1 is up")


def test_logs_to_a_file_and_as_text(httpserver: HTTPServer, run: Run, tmp_path: Path) -> None:
    data = log_tar()
    httpserver.expect_request("/project/web/logs").respond_with_data(data, content_type="application/x-tar")
    target = tmp_path / "web.tar"
    assert run("logs", "web", "-o", str(target)) == (0, "", "")
    assert target.read_bytes() == data
    assert run("logs", "web", "--text") == (0, "hello\n", "")
    assert run("logs", "web", "--text", "-o", str(target))[0] == 0
    assert target.read_bytes() == b"hello\n"
    assert [path.name for path in tmp_path.iterdir()] == ["web.tar"]


def test_logs_that_fail_leave_no_file(httpserver: HTTPServer, run: Run, tmp_path: Path) -> None:
    httpserver.expect_request("/project/web/logs").respond_with_data(b"<html>no tar</html>")
    code, _, err = run("logs", "web", "--text", "-o", str(tmp_path / "web.txt"))
    assert code == 7
    assert "no tar" in err
    assert run("logs", "web", "-o", str(tmp_path / "absent/web.tar"))[0] == 2
    assert list(tmp_path.iterdir()) == []
