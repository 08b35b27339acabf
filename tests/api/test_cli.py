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
    text = {"format": "text"}
    httpserver.expect_request("/project/web/logs", query_string=text).respond_with_data("hello\n", content_type="text/plain")
    httpserver.expect_request("/project/web/logs").respond_with_data(data, content_type="application/x-tar")
    target = tmp_path / "web.tar"
    assert run("logs", "web", "-o", str(target)) == (0, "", "")
    assert target.read_bytes() == data
    assert run("logs", "web", "--text") == (0, "hello\n", "")
    assert run("logs", "web", "--text", "-o", str(target))[0] == 0
    assert target.read_bytes() == b"hello\n"
    assert [path.name for path in tmp_path.iterdir()] == ["web.tar"]


def test_logs_that_fail_leave_no_file(httpserver: HTTPServer, run: Run, tmp_path: Path) -> None:
    httpserver.expect_request("/project/web/logs").respond_with_data(b"<html>no tar</html>", 404)
    assert run("logs", "web", "--text", "-o", str(tmp_path / "web.txt"))[0] != 0
    httpserver.clear()
    httpserver.expect_request("/project/web/logs").respond_with_data(b"tar")
    assert run("logs", "web", "-o", str(tmp_path / "absent/web.tar"))[0] == 2
    assert list(tmp_path.iterdir()) == []


def test_logs_that_are_followed_and_events(httpserver: HTTPServer, run: Run) -> None:
    query = {"format": "text", "follow": "true", "marks": "true"}
    answers = {"tail=2": "1.0 0\n1.4 4\none\n1.8 4\ntwo\n1.99 40\ntorn", "from=1.8": "1.8 0\n2.6 6\nthree\n"}
    for begin, text in answers.items():
        asked = {**query, **dict([begin.split("=")])}
        httpserver.expect_ordered_request("/project/web/logs", query_string=asked).respond_with_data(text)
    gone = Response(json.dumps(NotFound("gone").to_problem()), 404, content_type="application/problem+json")
    httpserver.expect_ordered_request("/project/web/logs", query_string={**query, "from": "2.6"}).respond_with_response(gone)
    code, out, err = run("logs", "web", "-f", "--tail", "2")
    assert (code, out) == (4, "one\ntwo\nthree\n") and "going on" in err and "gone" in err
    event = {"at": "2026-01-31T12:04:31.250Z", "project": "web", "event": "exited", "exit_cause": {"text": "ended"}}
    stream = f"retry: 1000\n: hello\n\nid: 1.2\nevent: exited\ndata: {json.dumps(event)}\n\n"
    query = {"project": "web"}
    httpserver.expect_request("/events", query_string=query).respond_with_data(stream, content_type="text/event-stream")
    httpserver.expect_request("/events", query_string={**query, "from": "1.2"}).respond_with_response(gone)
    assert run("events", "web")[:2] == (4, "2026-01-31T12:04:31.250Z  web  exited  ended\n")
    told, _, refused = run("events", "web", "--json")[1].partition("\n")
    assert (json.loads(told), json.loads(refused)["status"]) == (event, 404)


def test_launch_with_a_manifest_of_its_own(httpserver: HTTPServer, run: Run, tmp_path: Path) -> None:
    (tmp_path / "web-1.2.sh").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "m.json").write_text('{"version": "7"}')
    forms: List[Tuple[Dict[str, str], bytes]] = []

    def launch(request: Request) -> Response:
        forms.append((dict(request.form), request.files["artifact"].read()))
        return Response(json.dumps(LAUNCHED), 201, content_type="application/json")

    httpserver.expect_request("/project", method="POST").respond_with_handler(launch)
    assert run("launch", str(tmp_path / "web-1.2.sh"), "--manifest", str(tmp_path / "m.json"))[0] == 0
    ((fields, artifact),) = forms
    assert (fields["project"], json.loads(fields["manifest"]), len(fields["sha256"])) == ("web", {"version": "7"}, 64)
    assert artifact == b"#!/bin/sh\n"


def test_launch_of_a_url_is_the_agents_to_fetch(httpserver: HTTPServer, run: Run) -> None:
    call = {"project": "web", "artifact_url": "https://h.example/a", "sha256": "ab" * 32}
    httpserver.expect_request("/project", method="POST", json=call).respond_with_json(LAUNCHED, 201)
    assert run("launch", "web", "https://h.example/a", "--sha256", "ab" * 32)[0] == 0


def test_why_is_a_paragraph_and_the_last_lines(httpserver: HTTPServer, run: Run) -> None:
    httpserver.expect_request("/project/web").respond_with_json(PROJECTS[0])
    entry_of_history = {"at": "2026-01-01T00:00:00Z", "event": "launch", "by": "ci"}
    httpserver.expect_request("/project/web/history").respond_with_json({"project": "web", "history": [entry_of_history]})
    query = {"format": "text", "tail": "3"}
    httpserver.expect_request("/project/web/logs", query_string=query).respond_with_data(
        b"one\n\x1b[2Jtwo\n", content_type="text/plain"
    )
    code, out, _ = run("why", "web", "--lines", "3")
    first, *_, one, two = out.splitlines()
    assert (code, one, two) == (0, "  | one", "  | ?[2Jtwo")
    assert first.startswith("web 1 is ready: it runs. The last call was `launch` by ci, ") and first.endswith(
        "Nothing is to be done."
    )
    code, out, _ = run("why", "web", "--lines", "3", "--json")
    assert json.loads(out)["last_lines"] == ["one", "\x1b[2Jtwo"]


def test_many_hosts_a_line_each_and_the_code_of_the_first_that_failed(
    httpserver: HTTPServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    httpserver.expect_request("/project/web/restart", method="POST").respond_with_json(LAUNCHED)
    good, keys = f"127.0.0.1:{httpserver.port}", tmp_path / "key"
    keys.write_text("key")
    (tmp_path / "hosts").write_text(f"# ours\n\n127.0.0.1:1 {keys}\nhttp://localhost:{httpserver.port}\n")
    words = ["restart", "web", "--token", "key", "--host", good, "--hosts-file", str(tmp_path / "hosts")]
    assert entry.main(words) == 7
    shown = capsys.readouterr()
    lines = {line.split()[0]: line for line in shown.out.splitlines()}
    assert lines[good].endswith("ok      web 1 is up (ready, pid 7).")
    assert "failed  No agent answers at http://127.0.0.1:1" in lines["127.0.0.1:1"]
    assert len(lines) == 3 and shown.err == "2 of 3 hosts: done.\n"
    assert entry.main([*words, "--json"]) == 7
    codes = [host["exit_code"] for host in json.loads(capsys.readouterr().out)["hosts"]]
    assert codes == [0, 7, 0]


def test_a_folder_is_packed_once_for_many_hosts(httpserver: HTTPServer, tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    bodies: List[bytes] = []

    def launch(request: Request) -> Response:
        bodies.append(request.get_data())
        return Response(json.dumps(LAUNCHED), 201, content_type="application/json")

    httpserver.expect_request("/project", method="POST").respond_with_handler(launch)
    hosts = ["--host", f"127.0.0.1:{httpserver.port}", "--host", f"localhost:{httpserver.port}"]
    assert entry.main(["launch", "web", str(tmp_path), "--token", "key", *hosts]) == 0
    assert len(bodies) == 2 and len(set(bodies)) == 1
