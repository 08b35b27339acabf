"""The calls: both shapes do the same, what is not understood is named, and nothing unforeseen shows its insides."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import socket
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest

from agent.errors import Conflict
from tests.api.conftest import BEARER, Web, head, problem
from tests.support.http import Response
from tests.support.log_tar import members_of
from tests.support.wait import eventually

JSON = {**BEARER, "Content-Type": "application/json"}
HISTORY = "/project/web/history"
SHAPES: List[Tuple[str, str, Optional[object], str, Dict[str, Any]]] = [
    ("GET", "/project", None, "describe_all", {}),
    ("POST", "/describe_projects", None, "describe_all", {}),
    ("POST", "/describe_projects", {}, "describe_all", {}),
    ("GET", "/project/web", None, "describe", {"project": "web"}),
    ("POST", "/describe_projects", {"project": "web"}, "describe", {"project": "web"}),
    ("GET", "/project/web/logs", None, "logs", {"project": "web"}),
    ("POST", "/get_project_logs", {"project": "web"}, "logs", {"project": "web"}),
    ("DELETE", "/project/web", None, "kill", {"project": "web", "grace_seconds": None, "purge": False}),
    ("POST", "/kill_project", {"project": "web"}, "kill", {"project": "web", "grace_seconds": None, "purge": False}),
    (
        "DELETE", "/project/web?grace_seconds=0.5&purge=true", None, "kill",
        {"project": "web", "grace_seconds": 0.5, "purge": True},
    ),
    (
        "POST", "/kill_project", {"project": "web", "grace_seconds": 3, "purge": False}, "kill",
        {"project": "web", "grace_seconds": 3.0, "purge": False},
    ),
    ("POST", "/project/web/restart", None, "restart", {"project": "web"}),
    ("POST", "/project/web/rollback", None, "rollback", {"project": "web", "version": None}),
    ("POST", "/project/web/rollback", {"version": "1.0"}, "rollback", {"project": "web", "version": "1.0"}),
    (
        "POST", "/project/web/have", {"files": [{"sha256": "AB" * 32, "size": 7}]}, "have",
        {"project": "web", "wanted": [(7, "ab" * 32)]},
    ),
    ("GET", HISTORY, None, "history", {"project": "web"}),
    ("GET", "/healthz", None, "health", {}),
]  # fmt: skip


def call(web: Web, method: str, path: str, document: Optional[object] = None) -> Response:
    body = None if document is None else json.dumps(document).encode()
    return web.request(method, path, body, JSON if body is not None else BEARER)


@pytest.mark.parametrize(("method", "path", "document", "name", "values"), SHAPES)
def test_each_shape_calls_its_operation(
    web: Web, method: str, path: str, document: Optional[object], name: str, values: Dict[str, Any]
) -> None:
    answer = call(web, method, path, document)
    expected = {"health": 503}.get(name, 200)
    assert answer.status == expected, answer
    ((called, given),) = web.noted.calls
    assert given.pop("by", "admin from 127.0.0.1") == "admin from 127.0.0.1"
    assert (called, given) == (name, values)
    assert answer.headers["cache-control"] == "no-store"
    if name != "logs":
        assert answer.headers["content-type"] == "application/json"
        assert answer.json == {"called": name} and answer.body.endswith(b"\n")


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/kill_project", b"", "project: it is missing"),
        ("/kill_project", b"{}", "project: it is missing"),
        ("/kill_project", b"{", "not valid JSON"),
        ("/kill_project", b"\xff\xfe", "not valid JSON"),
        ("/kill_project", b"[" * 60_000, "not valid JSON"),
        ("/kill_project", b'{"grace_seconds": 1' + b"0" * 5000 + b"}", ""),
        ("/kill_project", b'["web"]', "no object"),
        ("/kill_project", b'"web"', "no object"),
        ("/kill_project", b'{"project": "web", "project": "web"}', "project: the field is there more than once"),
        ("/kill_project", b'{"project": "web", "colour": 1}', "'colour'"),
        ("/kill_project", b'{"project": ["web"]}', "project"),
        ("/kill_project", b'{"project": null}', "project"),
        ("/kill_project", b'{"project": "web\\n"}', "project"),
        ("/kill_project", b'{"project": "web", "grace_seconds": "1"}', "grace_seconds"),
        ("/kill_project", b'{"project": "web", "grace_seconds": -1}', "grace_seconds"),
        ("/kill_project", b'{"project": "web", "grace_seconds": true}', "grace_seconds"),
        ("/kill_project", b'{"project": "web", "grace_seconds": NaN}', "NaN"),
        ("/kill_project", b'{"project": "web", "grace_seconds": 1e999}', "grace_seconds"),
        ("/kill_project", b'{"project": "web", "purge": "true"}', "purge"),
        ("/get_project_logs", b'{"project": "web", "tail": 5}', "tail: it is for text"),
        ("/project/web/rollback", b'{"version": 1}', "version"),
        ("/describe_projects", b'{"projects": []}', "'projects'"),
        ("/kill_project?project=web", b'{"project": "web"}', "'project'"),
    ],
)
def test_a_bad_json_body_gets_400_naming_what_is_wrong(web: Web, path: str, body: bytes, named: str) -> None:
    assert named in problem(web.request("POST", path, body, JSON), 400)
    assert web.noted.calls == []


@pytest.mark.parametrize(
    ("method", "path", "named"),
    [
        ("DELETE", "/project/web?purge=yes", "purge"),
        ("DELETE", "/project/web?purge=true&purge=true", "purge"),
        ("DELETE", "/project/web?grace_seconds=soon", "grace_seconds"),
        ("DELETE", "/project/web?grace_seconds=nan", "grace_seconds"),
        ("DELETE", "/project/web?grace_seconds=", "grace_seconds"),
        ("DELETE", "/project/web?purge", "purge"),
        ("DELETE", "/project/web?grace_seconds=1;purge=true", "grace_seconds"),
        ("DELETE", "/project/web?purge=%ff", "malformed"),
        ("GET", "/project/web/logs?format=csv", "format: 'csv' is not known here"),
        ("GET", "/project/web/logs?follow=true", "follow: it is for text"),
        ("GET", "/project/web/logs?format=text&follow=maybe", "follow: 'maybe' is neither true nor false"),
        ("GET", "/project/web/logs?format=text&tail=-1", "tail: '-1' is not possible"),
        ("GET", "/project/web/logs?format=text&run=first", "run: 'first' is not possible"),
        ("GET", "/project/web/logs?format=text&since=yesterday", "since: 'yesterday' is no time"),
        ("GET", "/project/web/logs?format=text&until=2026-02-30", "until: '2026-02-30' is no time"),
        ("GET", "/project/web/logs?format=text&grep=", "grep: '' is not possible"),
        ("GET", "/project/web/logs?format=text&grep=a%0Ab", "grep: 'a\\nb' is not possible"),
        ("GET", "/project/web/logs?format=text&follow=true&until=5", "follow: it goes with neither"),
        ("GET", "/project/web/logs?compress=zip", "compress: 'zip' is not known here"),
        ("GET", "/project/web/logs?colour=red", "'colour'"),
        ("GET", "/project?x=1", "'x'"),
        ("GET", "/project?" + "&".join(f"x{i}=1" for i in range(200)), "malformed"),
    ],
)
def test_a_bad_query_gets_400_naming_the_parameter(web: Web, method: str, path: str, named: str) -> None:
    assert named in problem(web.request(method, path), 400)
    assert web.noted.calls == []


def test_an_operations_error_is_its_problem_document(web: Web) -> None:
    web.noted.fails = Conflict("It is being launched.", "Wait.", project="web", running={"version": "1"})
    answer = web.request("POST", "/project/web/restart")
    problem(answer, 409)
    assert answer.json["running"] == {"version": "1"} and answer.json["type"] == "urn:ant-host-agent:conflict"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_unforeseen_exception_is_an_incident(web: Web, capfd: pytest.CaptureFixture[str]) -> None:
    web.noted.fails = RuntimeError("a secret of the inside")
    answer = web.request("GET", HISTORY)
    detail = problem(answer, 500)
    log = capfd.readouterr().err
    assert answer.json["incident"] in detail and answer.json["incident"] in log
    assert "a secret of the inside" in log and "Traceback" in log
    assert b"secret" not in answer.body and b"Traceback" not in answer.body and b"html" not in answer.body
    web.noted.fails = None
    assert web.request("GET", HISTORY).status == 200


def test_a_full_disk_and_exhausted_descriptors_are_no_incident(web: Web) -> None:
    for number, status in ((28, 507), (122, 507), (24, 503), (23, 503)):
        web.noted.fails = OSError(number, os.strerror(number))
        problem(web.request("GET", HISTORY), status)


def make_logs(web: Web, size: int = 1000) -> bytes:
    logs = web.store.project("web").logs
    os.makedirs(logs)
    content = os.urandom(size)
    for name, data in (
        ("output-00000009.log", b"first\n"),
        ("output-00000010.log", content),
        ("events.jsonl", b"{}\n"),
    ):
        with open(f"{logs}/{name}", "wb") as file:
            file.write(data)
    return content


def test_logs_are_one_tar_with_its_length(web: Web) -> None:
    content = make_logs(web, 3 << 20)
    answer = web.request("GET", "/project/web/logs")
    assert answer.headers["content-type"] == "application/x-tar"
    assert answer.headers["content-disposition"] == 'attachment; filename="web-logs.tar"'
    assert int(answer.headers["content-length"]) == len(answer.body)
    members = members_of(answer.body)
    assert b"output-*.log" in members.pop("web/README.txt")
    assert list(members.items()) == [
        ("web/logs/output-00000009.log", b"first\n"),
        ("web/logs/output-00000010.log", content),
        ("web/logs/events.jsonl", b"{}\n"),
    ]
    assert call(web, "POST", "/get_project_logs", {"project": "web"}).body == answer.body


def open_descriptors(web: Web) -> List[str]:
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return [os.readlink(link) for link in links if os.path.exists(link) and web.store.root in os.readlink(link)]


def test_head_of_logs_has_the_length_and_opens_nothing_for_long(web: Web) -> None:
    make_logs(web)
    length = web.request("GET", "/project/web/logs").headers["content-length"]
    answer = web.request("HEAD", "/project/web/logs")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", length)
    assert open_descriptors(web) == []


def test_readers_that_stand_still_take_no_worker(serve: Callable[..., Web]) -> None:
    web = serve(threads=9)
    make_logs(web, 32 << 20)
    stalled: List[socket.socket] = []
    try:
        for _ in range(30):
            connection = web.connect()
            stalled.append(connection)
            connection.sendall(head("GET", "/project/web/logs", **BEARER) * 2)
            assert connection.recv(100).startswith(b"HTTP/1.1 200 OK")
        assert web.request("GET", "/project").status == 200
        assert web.request("DELETE", "/project/web").status == 200
        assert [name for name, _ in web.noted.calls].count("logs") == 30  # the second of each waits for its turn
    finally:
        for connection in stalled:
            connection.close()


def test_a_reader_that_goes_away_leaves_no_descriptor(web: Web) -> None:
    make_logs(web, 32 << 20)
    with web.connect() as connection:
        connection.sendall(head("GET", "/project/web/logs", **BEARER))
        connection.recv(100)
        assert open_descriptors(web) != []
    eventually(lambda: open_descriptors(web) == [])


def test_the_dashboard_comes_with_a_policy_and_without_anything_from_elsewhere(web: Web) -> None:
    answer = web.request("GET", "/", headers=BEARER)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy and policy.startswith("default-src 'none'; script-src 'sha256-")
    for tag in (b"style", b"script"):
        (content,) = re.findall(b"<%b>(.*?)</%b>" % (tag, tag), answer.body, re.DOTALL)
        assert base64.b64encode(hashlib.sha256(content).digest()).decode() in policy
    assert not re.search(rb"(?:src|href)=\"(?!data:|#)|innerHTML|https?://(?!www\.w3\.org/2000/svg)", answer.body)
    assert web.request("GET", "/", headers={}).status == 401


def test_no_answer_is_html(web: Web) -> None:
    for method, path in (("GET", "/nothing"), ("PUT", "/project"), ("GET", "/project/%00"), ("POST", "/ping/x")):
        answer = web.request(method, path)
        assert answer.headers["content-type"] == "application/problem+json"
        assert not re.search(rb"<\w+>", answer.body)
