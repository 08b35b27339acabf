"""What is refused when the head is complete: with a problem document, and before a byte of the body is stored."""

from __future__ import annotations

import contextlib
import http.client
import socket
from typing import Callable

import pytest

from agent.web import server
from tests.api.conftest import BEARER, RAW, Web, head, problem, read_until_end
from tests.support.wait import eventually


@pytest.mark.parametrize("expect", [{}, {"Expect": "100-continue"}])
def test_a_gigabyte_without_a_key_stores_nothing(web: Web, expect: dict[str, str]) -> None:
    length = {"Content-Length": str(1 << 30), "Content-Type": "application/octet-stream"}
    with web.connect() as connection:
        connection.sendall(head("POST", "/project?project=web", **length, **expect))
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 401 ") and b"100 Continue" not in answer
        assert web.staged() == []


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/project", "GET, HEAD, POST"), ("/project/web", "DELETE, GET, HEAD"), ("/launch_project", "POST"),
        ("/project/web/logs", "GET, HEAD"), ("/project/web/restart", "POST"), ("/ping", "GET, HEAD, POST"),
    ],
)  # fmt: skip
def test_another_method_gets_405_and_what_is_allowed(web: Web, path: str, allow: str) -> None:
    for method in ("PUT", "PATCH", "OPTIONS", "PROPFIND"):
        answer = web.request(method, path)
        problem(answer, 405)
        assert answer.headers["allow"] == allow


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/project/",
        "/project/web/",
        "/project/web/logs/x",
        "/pin",
        "/kill_project/x",
        "*",
        "/project/a%0a/x",
    ],
)
def test_an_unknown_path_gets_404(web: Web, path: str) -> None:
    problem(web.request("GET", path), 404)


@pytest.mark.parametrize(
    "path",
    [
        "/project/..",
        "/project/%2e%2e",
        "/project/a%00",
        "/project/A",
        "/project/-a",
        "/project/a%0a",
        "/project/" + "a" * 64,
    ],
)
def test_a_bad_project_id_gets_400(web: Web, path: str) -> None:
    assert "project" in problem(web.request("GET", path), 400)
    assert web.noted.calls == []


def test_a_path_that_is_not_utf_8_gets_400(web: Web) -> None:
    assert "UTF-8" in problem(web.request("GET", "/project/w%ffeb"), 400)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", 400),
        (b"Transfer-Encoding: \r\nContent-Length: 4\r\n", 400),
        (b"Transfer-Encoding: chunked, chunked\r\n", 400),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"Transfer-Encoding: gzip, chunked\r\n", 501),
        (b"Transfer-Encoding: xchunked\r\n", 501),
        (b"Transfer-Encoding : chunked\r\n", 400),
        (b"Transfer-Encoding: \x0bchunked\r\n", 400),
        (b"Content-Length: 4, 4\r\n", 400),
        (b"Content-Length: 4\r\nContent-Length: 5\r\n", 400),
        (b"Content-Length: -4\r\n", 400),
        (b"Content-Length: +4\r\n", 400),
        (b"Content-Length: 0x4\r\n", 400),
        (b"Content-Length: " + b"9" * 5000 + b"\r\n", 400),
        (b"X\r\n", 400),
        (b"Transfer-Encoding:\r\n chunked\r\n", 400),
        (b"Content-Length:\r\n 4\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"X: a\x00b\r\n", 400),
        (b"X: a\nY: b\r\n", 400),
    ],
)
def test_framing_that_can_be_read_in_two_ways_is_refused(web: Web, lines: bytes, status: int) -> None:
    start = head("POST", "/project?project=web", **RAW)[:-2]
    smuggled = b"GET /project/smuggled HTTP/1.1\r\n\r\n"
    with web.connect() as connection:
        connection.sendall(start + lines + b"\r\n" + b"0\r\n\r\n" + smuggled)
        answer = read_until_end(connection)
    assert answer.split(b" ", 2)[1] == str(status).encode() and answer.count(b"\r\nDate: ") == 1
    assert web.noted.calls == []


def test_http_1_0_has_no_transfer_encoding(web: Web) -> None:
    lines = head("POST", "/project?project=web", **RAW, **{"Transfer-Encoding": "chunked"})
    assert web.raw(lines.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n").status == 400


@pytest.mark.parametrize("line", [b"GET", b"get /project HTTP/1.1", b"GET http://[/ HTTP/1.1", b"GET /project HTTP/1.1 x", b"\0"])
def test_a_malformed_request_line_gets_400(web: Web, line: bytes) -> None:
    problem(web.raw(line + b"\r\nHost: localhost\r\n\r\n"), 400)


@pytest.mark.parametrize("version", [b"2.0", b"1.2", b"0.9", b"9.9"])
def test_another_version_of_http_gets_505(web: Web, version: bytes) -> None:
    assert "HTTP/1.1" in problem(web.raw(head("GET", "/project", **BEARER).replace(b"HTTP/1.1", b"HTTP/" + version)), 505)


def test_those_who_were_refused_keep_nobody_out(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS", 5)
    with contextlib.ExitStack() as stack:
        for _ in range(20):  # each stays open: its client has announced more than it sends
            refused = stack.enter_context(web.connect())
            refused.sendall(head("POST", "/project?project=web", **{"Content-Length": "1000"}))
            assert refused.recv(65536).startswith(b"HTTP/1.1 401 ")
            assert web.request("GET", "/project").status == 200


def test_those_who_were_let_in_are_not_put_out(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS", 2)
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            upload = stack.enter_context(web.connect())
            upload.sendall(head("POST", "/project?project=web", **RAW, **{"Content-Length": "9"}) + b"x")
        eventually(lambda: len(web.staged()) == 2)
        problem(web.request("GET", "/project"), 503)
        upload.sendall(b"12345678")
        assert upload.recv(65536).startswith(b"HTTP/1.1 201 ")


def test_a_chunk_that_is_none_gets_400_and_leaves_nothing(web: Web) -> None:
    start = head("POST", "/project?project=web", **RAW, **{"Transfer-Encoding": "chunked"})
    for body in (b"zz\r\nab\r\n", b"2\r\nabc\r\n", b"2;a=\r\nab\r\n", b"-2\r\nab\r\n", b"f" * 70_000):
        problem(web.raw(start + body), 400)
        assert web.staged() == []


def test_a_launch_without_a_length_gets_411(web: Web) -> None:
    problem(web.raw(head("POST", "/project?project=web", **RAW)), 411)
    problem(web.raw(head("POST", "/launch_project", **BEARER, **{"Content-Type": "application/json"})), 411)


def test_an_empty_artifact_gets_400(web: Web) -> None:
    assert "artifact" in problem(web.request("POST", "/project?project=web", b"", RAW), 400)
    chunked = head("POST", "/project?project=web", **RAW, **{"Transfer-Encoding": "chunked"}) + b"0\r\n\r\n"
    assert "artifact" in problem(web.raw(chunked), 400)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "image/png", "text/html; charset=utf-8"])
def test_another_content_type_gets_415_and_a_hint(web: Web, kind: str) -> None:
    assert "octet-stream" in problem(web.request("POST", "/project?project=web", b"x", {**BEARER, "Content-Type": kind}), 415)
    assert "application/json" in problem(web.request("POST", "/kill_project", b"{}", {**BEARER, "Content-Type": kind}), 415)


def test_a_json_body_over_64_kib_gets_413(web: Web) -> None:
    headers = {**BEARER, "Content-Type": "application/json"}
    problem(web.request("POST", "/kill_project", b" " * 65537, headers), 413)
    start = head("POST", "/project", **headers, **{"Transfer-Encoding": "chunked"})
    problem(web.raw(start + b"10000\r\n" + b" " * 65536 + b"\r\n1\r\n \r\n0\r\n\r\n"), 413)


def test_a_body_where_none_is_read_gets_400(web: Web) -> None:
    assert "body" in problem(web.request("DELETE", "/project/web", b'{"purge": true}'), 400)
    assert web.noted.calls == []


def test_an_artifact_over_the_limit_gets_413_at_its_head(serve: Callable[..., Web]) -> None:
    web = serve(max_artifact_bytes=1000)
    assert "1000 bytes" in problem(web.raw(head("POST", "/project?project=web", **RAW, **{"Content-Length": "1001"})), 413)
    assert web.request("POST", "/project?project=web", b"x" * 1000, RAW).status == 201
    start = head("POST", "/project?project=web", **RAW, **{"Transfer-Encoding": "chunked"})
    problem(web.raw(start + b"3e8\r\n" + b"x" * 1000 + b"\r\n1\r\nx\r\n"), 413)
    assert web.staged() == []


def test_an_artifact_that_the_disk_has_no_room_for_gets_507(serve: Callable[..., Web]) -> None:
    web = serve(max_artifact_bytes=1 << 60)
    for expect in ({}, {"Expect": "100-continue"}):
        answer = web.raw(head("POST", "/project?project=web", **RAW, **{"Content-Length": str(1 << 50)}, **expect))
        assert "free" in problem(answer, 507)
    assert web.staged() == []


def test_uploads_beyond_the_slots_get_503_and_a_cut_one_frees_its_slot(serve: Callable[..., Web]) -> None:
    web = serve(upload_slots=1)
    with web.connect() as first:
        first.sendall(head("POST", "/project?project=web", **RAW, **{"Content-Length": "100"}) + b"x")
        eventually(lambda: len(web.staged()) == 1)
        answer = web.raw(head("POST", "/project?project=web", **RAW, **{"Content-Length": "100", "Expect": "100-continue"}))
        problem(answer, 503)
        assert int(answer.headers["retry-after"]) > 0
    eventually(lambda: not len(web.server.uploads))
    assert web.staged() == []
    assert web.request("POST", "/project?project=web", b"x", RAW).status == 201


def test_a_bad_query_of_an_upload_is_refused_before_its_body(web: Web) -> None:
    for query in (
        "",
        "?project=A",
        "?project=web&version=..",
        "?project=web&sha256=12",
        "?project=web&x=1",
        "?project=a&project=b",
    ):
        sent = head("POST", "/project" + query, **RAW, **{"Content-Length": "1000", "Expect": "100-continue"})
        problem(web.raw(sent), 400)
    assert web.staged() == []


def test_expect_100_continue_is_answered_when_the_upload_is_welcome(web: Web) -> None:
    with web.connect() as connection:
        connection.sendall(head("POST", "/project?project=web", **RAW, **{"Content-Length": "3", "Expect": "100-continue"}))
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        answer = b""
        while not answer.endswith(b"}\n"):
            answer += connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 201 ")
        # nothing to continue with: the answer comes at once
        connection.sendall(head("GET", "/project", **BEARER, **{"Content-Length": "0", "Expect": "100-continue"}))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_sends_first_and_reads_then_sees_the_refusal(web: Web) -> None:
    for path, headers, status in (("/project?project=web", {}, 401), ("/nothing", RAW, 404)):
        connection = http.client.HTTPConnection(*web.address, timeout=30)
        connection.request("POST", path, b"x" * (8 << 20), headers)
        assert connection.getresponse().status == status
        connection.close()


def test_head_of_a_refused_call_has_no_body(web: Web) -> None:
    with web.connect() as connection:
        connection.sendall(head("HEAD", "/nothing", **BEARER))
        answer = read_until_end(connection)
    assert answer.startswith(b"HTTP/1.1 404 ") and answer.endswith(b"\r\n\r\n")


def test_a_half_closed_upload_is_told_and_leaves_nothing(web: Web) -> None:
    sent = head("POST", "/project?project=web", **RAW, **{"Content-Length": "1000"}) + b"x" * 10
    assert "10 of 1000" in problem(web.raw(sent, half_close=True), 400)
    assert web.staged() == []


def test_a_reset_upload_leaves_nothing(web: Web) -> None:
    with web.connect() as connection:
        connection.sendall(head("POST", "/project?project=web", **RAW, **{"Content-Length": "1000"}) + b"x" * 10)
        eventually(lambda: len(web.staged()) == 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    eventually(lambda: web.staged() == [])


def test_forwarded_headers_are_not_believed(web: Web) -> None:
    web.request("DELETE", "/project/web", None, {**BEARER, "X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6"})
    assert web.noted.calls[0][1]["by"] == "admin from 127.0.0.1"
