"""A hostile client on raw sockets: whatever it sends, it gets one clear answer or none, and nothing stays of it."""

from __future__ import annotations

import os
import random
import re
import socket
from typing import Dict, List, Tuple

import pytest

from tests.support import processes
from tests.support.agent import AgentHost
from tests.support.api import Description, is_endless
from tests.support.http import Response
from tests.support.wait import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.newest]

HOST = b"Host: localhost\r\n"
RAW = b"Content-Type: application/octet-stream\r\n"
JSON = b"Content-Type: application/json\r\n"
CHUNKED = RAW + b"Transfer-Encoding: chunked\r\n"
SMUGGLED = b"DELETE /project/ant-host-agent HTTP/1.1\r\nHost: localhost\r\n\r\n"


def request(line: bytes, headers: bytes = b"", body: bytes = b"", host: bytes = HOST) -> bytes:
    """A request with the admin's key in it, once `@KEY@` is replaced, after which the connection ends."""
    return line + b" HTTP/1.1\r\n" + host + b"Authorization: Bearer @KEY@\r\nConnection: close\r\n" + headers + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    return request(b"POST /project?project=bad", CHUNKED, body)


#: What is sent, and the one status that it gets.
ATTACKS: Dict[str, Tuple[bytes, int]] = {
    "an absolute form of ours": (request(b"GET http://localhost/project"), 200),
    "an absolute form of another": (request(b"GET http://evil.example/project"), 421),
    "an absolute form that differs from the host": (request(b"GET http://localhost/project", host=b"Host: evil\r\n"), 421),
    "an absolute form with a user": (request(b"GET http://a:b@localhost/project"), 421),
    "a tunnel": (request(b"CONNECT localhost:22"), 404),
    "an asterisk": (request(b"OPTIONS *"), 404),
    "trace": (request(b"TRACE /project"), 405),
    "no host": (request(b"GET /project", host=b""), 400),
    "two hosts": (request(b"GET /project", host=HOST + HOST), 421),
    "a host with a path": (request(b"GET /project", host=b"Host: localhost/@evil\r\n"), 421),
    "a host with a user": (request(b"GET /project", host=b"Host: evil@localhost\r\n"), 421),
    "a host with a nul": (request(b"GET /project", host=b"Host: localhost\0\r\n"), 400),
    "a foreign page": (request(b"GET /project", b"Origin: http://evil.example\r\n"), 403),
    "a page without an origin": (request(b"GET /project", b"Origin: null\r\n"), 403),
    "a preflight": (request(b"OPTIONS /project", b"Origin: http://evil\r\nAccess-Control-Request-Method: DELETE\r\n"), 403),
    "another method by a header": (request(b"GET /project", b"X-HTTP-Method-Override: DELETE\r\n"), 200),
    "http/2 with prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "http/0.9": (b"GET /project\r\n\r\n", 505),
    "three thousand headers": (request(b"GET /project", b"".join(b"X%d: 1\r\n" % n for n in range(3000))), 200),
    "one header three thousand times": (request(b"GET /project", b"X: 1\r\n" * 3000), 200),
    "a header of 70 kb": (request(b"GET /project", b"X: " + b"a" * 70_000 + b"\r\n"), 431),
    "a head without end": (b"GET /project HTTP/1.1\r\nX: " + b"a" * 1_000_000, 431),
    "a path of 60 kb": (request(b"GET /" + b"a" * 60_000), 404),
    "a method of 5 kb": (request(b"A" * 5000 + b" /project"), 405),
    "a bare line feed in a header": (request(b"GET /project", b"X: a\nTransfer-Encoding: chunked\r\n"), 400),
    "a bare carriage return in a header": (request(b"GET /project", b"X: a\rb\r\n"), 400),
    "a space before the colon": (request(b"GET /project", b"X : a\r\n"), 400),
    "a header without a name": (request(b"GET /project", b": a\r\n"), 400),
    "control characters": (request(b"GET /project", b"X: \x01\x7f\r\n"), 400),
    "bytes above 127 in the path": (request(b"GET /project/\xff\xfe"), 400),
    "a path that climbs": (request(b"GET /project/../../etc/passwd"), 404),
    "an encoded path that climbs": (
        request(b"PUT /project/bad/secrets/..%2f..%2ftoken", RAW + b"Content-Length: 1\r\n", b"x"),
        404,
    ),
    "length and chunks": (
        request(b"POST /project?project=bad", CHUNKED + b"Content-Length: 5\r\n", b"0\r\n\r\n" + SMUGGLED),
        400,
    ),
    "two lengths": (request(b"POST /kill_project", JSON + b"Content-Length: 2\r\nContent-Length: 44\r\n", b"{}" + SMUGGLED), 400),
    "a length in hex": (request(b"POST /kill_project", JSON + b"Content-Length: 0x2\r\n", b"{}" + SMUGGLED), 400),
    "a length with an underscore": (request(b"POST /kill_project", JSON + b"Content-Length: 1_0\r\n", b"{}" + SMUGGLED), 400),
    "a length without end": (request(b"POST /kill_project", JSON + b"Content-Length: " + b"9" * 5000 + b"\r\n"), 400),
    "chunked twice": (request(b"POST /project?project=bad", RAW + b"Transfer-Encoding: chunked, chunked\r\n", SMUGGLED), 400),
    "an unknown coding": (request(b"POST /project?project=bad", RAW + b"Transfer-Encoding: gzip\r\n", SMUGGLED), 501),
    "a folded coding": (request(b"POST /project?project=bad", RAW + b"Transfer-Encoding:\r\n chunked\r\n", SMUGGLED), 400),
    "a chunk size with a sign": (chunked(b"+3\r\nabc\r\n0\r\n\r\n"), 400),
    "a chunk size with an underscore": (chunked(b"1_0\r\nabc\r\n0\r\n\r\n"), 400),
    "a chunk longer than it says": (chunked(b"3\r\nabcd\r\n0\r\n\r\n"), 400),
    "a chunk extension over two lines": (chunked(b'3;a="\r\n"\r\nabc\r\n0\r\n\r\n'), 400),
    "a chunk of 2^80 bytes": (chunked(b"100000000000000000000\r\nabc"), 413),
    "chunk heads without end": (chunked(b"1;" + b"a" * 200_000), 400),
    "trailers without end": (chunked(b"3\r\nabc\r\n0\r\n" + b"X: y\r\n" * 20_000), 400),
    "an upload of 2^60 bytes": (request(b"POST /project?project=bad", RAW + b"Content-Length: 1152921504606846976\r\n"), 413),
    "a range without end": (request(b"GET /project/ant-host-agent/logs", b"Range: bytes=" + b"9" * 5000 + b"-\r\n"), 416),
    "garbage with an end": (b"\x16\x03\x01\x02\x00\x01\xfc\x03\x03" + bytes(range(256)) + b"\r\n\r\n", 400),
}


def exchange(host: AgentHost, sent: bytes) -> List[Response]:
    """Send it all, whatever comes back meanwhile, and read the answers until the agent ends the connection."""
    with socket.create_connection(host.address, timeout=120) as connection:
        connection.sendall(sent.replace(b"@KEY@", host.token.encode()))
        received = b""
        while True:
            data = connection.recv(65536)
            if not data:
                return [parsed(each) for each in re.split(rb"(?=HTTP/1\.1 \d{3} )", received) if each]
            received += data


def parsed(data: bytes) -> Response:
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return Response(int(lines[0].split()[1]), headers, body)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack(host: AgentHost, name: str) -> None:
    sent, status = ATTACKS[name]
    answers = exchange(host, sent)
    assert [answer.status for answer in answers] == [status], answers
    if status >= 400:
        (answer,) = answers
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["detail"] and answer.json["hint"] and answer.json["status"] == status
    assert host.staging() == []
    assert host.is_answering()


def test_what_follows_a_refusal_is_not_looked_at(host: AgentHost) -> None:
    for first in (b"GET /nowhere HTTP/1.1\r\n", b"POST /ping HTTP/1.1\r\nContent-Length: 3\r\n"):
        sent = first + HOST + b"Authorization: Bearer @KEY@\r\n\r\n" + request(b"POST /project/ant-host-agent/restart")
        assert len(exchange(host, sent)) == 1


def test_requests_in_one_piece_are_answered_in_order(host: AgentHost) -> None:
    head = HOST + b"Authorization: Bearer @KEY@\r\n"
    pings = b"GET /ping HTTP/1.1\r\n" + HOST + b"\r\n"
    body = b"POST /describe_projects HTTP/1.1\r\n" + head + JSON + b"Content-Length: 2\r\n\r\n{}"
    answers = exchange(host, pings * 2 + body + pings + b"GET /healthz HTTP/1.1\r\n" + head + b"\r\n" + request(b"GET /nowhere"))
    assert [answer.status for answer in answers] == [200, 200, 200, 200, 200, 404]
    assert b"pong" in answers[1].body and "projects" in answers[2].json and "healthy" in answers[4].json


def test_random_bytes_get_no_further_than_a_refusal(host: AgentHost) -> None:
    chance = random.Random(20)
    for length in (3, 10, 1000, 60_000):
        sent = chance.randbytes(length).replace(b"\r\n\r\n", b"") + b"\r\n\r\n"
        assert [answer.status for answer in exchange(host, sent)] == [400]


def test_head_is_get_without_its_body(host: AgentHost) -> None:
    description = Description(host.request("GET", "/openapi.json").json)
    for method, path, operation in description.operations():
        target = path.replace("{project}", "ant-host-agent").encode()
        if method == "GET" and "logs" not in path and not is_endless(operation):
            (answer,) = exchange(host, request(b"HEAD " + target))
            assert (answer.status, answer.body) == (host.request("GET", target.decode()).status, b"")
            assert int(answer.headers["content-length"]) > 0


def test_after_all_of_that_it_is_the_same_agent_and_it_said_nothing(host: AgentHost) -> None:
    record = host.record("ant-host-agent")
    assert record["restarts"] == 0 and record["run"] == 1
    said = host.output() + host.project_output("ant-host-agent").decode()
    assert "Traceback" not in said and "incident" not in said
    eventually(lambda: not any("upload" in path for path in open_files(host)), 30)


def open_files(host: AgentHost) -> List[str]:
    process = processes.look(host.agent_pid)
    assert process is not None
    links = [f"/proc/{process.pid}/fd/{name}" for name in os.listdir(f"/proc/{process.pid}/fd")]
    return [os.readlink(link) for link in links if os.path.islink(link)]
