"""ping is always answered, whatever else goes on: a small saturation here, the large one in the bench."""

from __future__ import annotations

import socket
from typing import Iterator, List

import pytest

from tests.support import http
from tests.support.agent import AgentHost
from tests.support.wait import eventually

pytestmark = pytest.mark.e2e

PINGS = 100
HALF_SENT_HEADS = 200
SLOW_UPLOADS = 10
SLOW_DOWNLOADS = 10


@pytest.fixture
def connections(host: AgentHost) -> Iterator[List[socket.socket]]:
    """Sockets that are closed at the end of the test."""
    opened: List[socket.socket] = []
    yield opened
    for connection in opened:
        connection.close()


def connect(host: AgentHost, connections: List[socket.socket], sent: bytes) -> socket.socket:
    connection = socket.create_connection(host.address, timeout=30)
    connections.append(connection)
    connection.sendall(sent)
    return connection


def assert_ping_is_always_answered(host: AgentHost) -> None:
    answers = [http.request(host.address, "GET", "/ping") for _ in range(PINGS)]
    assert {(answer.status, answer.body) for answer in answers} == {(200, b"pong")}


def half_sent_heads(host: AgentHost, connections: List[socket.socket]) -> None:
    for _ in range(HALF_SENT_HEADS):
        connect(host, connections, b"GET /project HTTP/1.1\r\nHost: 127")


def slow_uploads(host: AgentHost, connections: List[socket.socket]) -> None:
    head = (
        f"POST /project?project=slow HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {host.token}\r\n"
        "Content-Type: application/octet-stream\r\nContent-Length: 100000000\r\n\r\n"
    ).encode()
    for _ in range(SLOW_UPLOADS):
        connect(host, connections, head + b"x" * 1000)


def slow_downloads(host: AgentHost, connections: List[socket.socket], project: str) -> None:
    """Readers that take the first bytes of a large tar and then no more."""
    host.launch_fixture(project, "floods_logs", env={"LINES": "300000"})
    host.wait_for_output(project, b"done\n", 60)
    head = f"GET /project/{project}/logs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {host.token}\r\n\r\n"
    for _ in range(SLOW_DOWNLOADS):
        assert connect(host, connections, head.encode()).recv(12) in (b"HTTP/1.1 200", b"HTTP/1.1 503")


def stuck_launches(host: AgentHost, connections: List[socket.socket]) -> None:
    """Three launches whose artifact comes from a server that accepts and never answers."""
    silent = socket.create_server(("127.0.0.1", 0))
    connections.append(silent)
    url = f"http://127.0.0.1:{silent.getsockname()[1]}/a"
    for number in range(3):
        body = f'{{"project": "stuck-{number}", "artifact_url": "{url}", "sha256": "{"0" * 64}"}}'.encode()
        head = (
            f"POST /project HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {host.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        connect(host, connections, head + body)


def test_under_half_sent_heads(host: AgentHost, connections: List[socket.socket]) -> None:
    half_sent_heads(host, connections)
    assert_ping_is_always_answered(host)


def test_under_slow_uploads(host: AgentHost, connections: List[socket.socket]) -> None:
    slow_uploads(host, connections)
    eventually(host.staging, 10, "an upload in staging")
    assert_ping_is_always_answered(host)


def test_under_slow_downloads(host: AgentHost, connections: List[socket.socket], project: str) -> None:
    slow_downloads(host, connections, project)
    assert_ping_is_always_answered(host)


def test_under_stuck_launches(host: AgentHost, connections: List[socket.socket]) -> None:
    stuck_launches(host, connections)
    assert_ping_is_always_answered(host)


def test_under_all_of_it_and_other_calls_are_answered_too(
    host: AgentHost, connections: List[socket.socket], project: str
) -> None:
    slow_downloads(host, connections, project)
    half_sent_heads(host, connections)
    slow_uploads(host, connections)
    stuck_launches(host, connections)
    assert_ping_is_always_answered(host)
    assert host.request("GET", "/project").status in (200, 503)
    assert host.kill(project).status == 200


def test_when_they_are_gone_nothing_is_left(host: AgentHost, connections: List[socket.socket], project: str) -> None:
    slow_uploads(host, connections)
    eventually(host.staging, 10, "an upload in staging")
    for connection in connections:
        connection.close()
    eventually(lambda: not host.staging(), 10, lambda: str(host.staging()))
    assert host.launch_fixture(project, "hello").status == 201
