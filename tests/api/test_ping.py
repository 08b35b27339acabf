"""Ping: always answered, whatever else hangs on the server."""

from __future__ import annotations

import math
import os
import socket
import time
from typing import Callable, ClassVar, List

import pytest

from agent.web import server
from tests.api.conftest import BEARER, RAW, Web, head, read_until_end
from tests.support.wait import eventually

GET = b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"


def read_pongs(connection: socket.socket, count: int) -> bytes:
    received = b""
    while received.count(b"pong") < count:
        data = connection.recv(65536)
        assert data, received
        received += data
    return received


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_it_says_pong_without_a_key(web: Web, method: str) -> None:
    answer = web.request(method, "/ping", headers={})
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"pong", "text/plain")
    assert answer.headers["server"].startswith("ant-host-agent/")
    assert answer.headers["cache-control"] == "no-store"


def test_head_has_the_length_and_no_body(web: Web) -> None:
    answer = web.request("HEAD", "/ping", headers={})
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "4")


def test_the_connection_is_kept_until_close_is_asked_for(web: Web) -> None:
    with web.connect() as connection:
        for _ in range(3):
            connection.sendall(GET)
            assert b"Connection: close" not in read_pongs(connection, 1)
        connection.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"Connection: close\r\n" in read_until_end(connection)


def test_http_1_0_ends_the_connection(web: Web) -> None:
    with web.connect() as connection:
        connection.sendall(b"GET /ping HTTP/1.0\r\n\r\n")
        assert read_until_end(connection).endswith(b"\r\n\r\npong")


def test_pipelined_pings_are_all_answered_in_order(web: Web) -> None:
    with web.connect() as connection:
        connection.sendall(GET * 50 + GET[:10])
        assert read_pongs(connection, 50).count(b"HTTP/1.1 200 OK") == 50
        connection.sendall(GET[10:] + b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
        rest = read_until_end(connection)
        assert rest.index(b"pong") < rest.index(b"HTTP/1.1 401")


def test_other_calls_and_pings_are_answered_in_order_on_one_connection(web: Web) -> None:
    call = b"GET /project/web HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\n\r\n" % BEARER["Authorization"].encode()
    with web.connect() as connection:
        connection.sendall(call + GET + call + GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        answer = read_until_end(connection)
    assert answer.count(b"HTTP/1.1 200 OK") == 4
    assert answer.index(b"pong") < answer.rindex(b'"describe"') < answer.rindex(b"pong")


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /ping HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
        b"POST /ping HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"GET /ping?a=1 HTTP/1.1\r\nHost: x\r\nX-Folded: a\r\n b\r\n\r\n",
        b"GET //ping HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_unusual_pings_are_answered_by_the_route(web: Web, sent: bytes) -> None:
    answer = web.raw(sent)
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"pong", "text/plain")


@pytest.mark.parametrize(
    "body", [b"Content-Length: 1000000", b"Transfer-Encoding: chunked", b"Content-Length: 3\r\nExpect: 100-continue"]
)
def test_nobody_waits_for_the_body_of_a_ping(web: Web, body: bytes) -> None:
    with web.connect() as connection:  # of the body only the beginning comes
        connection.sendall(b"POST /ping HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n1\r\n" % body)
        answer = read_until_end(connection)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"\r\n\r\npong")
    assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize("length", [b"0, 5", b"+5", b"", b"-1", b"0x5", b"5 5", b"\x0b5", b"9" * 5000])
def test_a_length_that_can_be_read_in_two_ways_is_refused(web: Web, length: bytes) -> None:
    with web.connect() as connection:
        connection.sendall(b"POST /ping HTTP/1.1\r\nHost: x\r\nContent-Length: %s\r\n\r\n" % length + GET)
        answer = read_until_end(connection)
    assert answer.split(b"\r\n", 1)[0].split()[1] == b"400" and b"pong" not in answer


def test_a_hundred_half_sent_heads_do_not_matter(web: Web) -> None:
    half: List[socket.socket] = []
    try:
        for _ in range(100):
            half.append(web.connect())
            half[-1].sendall(b"POST /project HTTP/1.1\r\nHost:")
        assert all(web.request("GET", "/ping", headers={}).status == 200 for _ in range(20))
    finally:
        for connection in half:
            connection.close()


def test_stuck_launches_do_not_matter(serve: Callable[..., Web]) -> None:
    web = serve(threads=10, launches=2)
    web.noted.may_go.clear()
    stuck = [web.connect() for _ in range(2)]
    for connection in stuck:
        connection.sendall(head("POST", "/project?project=web", **RAW, **{"Content-Length": "3"}) + b"abc")
    eventually(lambda: web.noted.launches == 2)
    refused = web.request("POST", "/project?project=web", b"abc", RAW)
    assert (refused.status, refused.headers["retry-after"]) == (503, "5")
    assert web.request("GET", "/ping", headers={}).status == 200
    assert web.request("GET", "/project").status == 200
    assert web.request("DELETE", "/project/web").status == 200
    web.noted.may_go.set()
    for connection in stuck:
        with connection:
            assert connection.recv(65536).startswith(b"HTTP/1.1 201 ")


def test_a_head_that_does_not_end_is_answered_with_408(serve: Callable[..., Web]) -> None:
    web = serve(head_seconds=0.2)
    answer = web.raw(b"GET /ping HTTP/1.1\r\nHost:")
    assert (answer.status, answer.headers["content-type"]) == (408, "application/problem+json")


def test_a_connection_that_says_nothing_is_closed(serve: Callable[..., Web]) -> None:
    with serve(head_seconds=0.2).connect() as connection:
        assert read_until_end(connection) == b""


def test_a_head_of_more_than_64_kib_is_answered_with_431(web: Web) -> None:
    answer = web.raw(b"GET /ping HTTP/1.1\r\nX: " + b"x" * 70_000)
    assert (answer.status, answer.headers["content-type"]) == (431, "application/problem+json")
    answer = web.raw(b"GET /ping HTTP/1.1\r\nX: " + b"x" * 65_500 + b"\r\nY: y\r\nConnection: close\r\nTe: x\r\n\r\n")
    assert answer.status in (200, 431)


def test_a_connection_that_ends_within_the_head_gets_400(web: Web) -> None:
    assert web.raw(b"GET /project HTTP/1.1\r\nHost", half_close=True).status == 400


def test_a_drained_server_leaves_its_queue_to_the_next(web: Web) -> None:
    with web.connect() as kept:
        kept.sendall(GET)
        read_pongs(kept, 1)
        web.server.drain()
        web.thread.join(30)
        assert not web.thread.is_alive()
    with web.connect() as waiting:  # in the backlog: nobody accepts
        waiting.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        web.server = web.make_server()
        web.thread = web.start(web.server)
        assert read_until_end(waiting).endswith(b"pong")


def test_a_clock_that_goes_back_leaves_no_connection_open(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "DRAIN_SECONDS", math.inf)
    with web.connect() as idle:
        key = BEARER["Authorization"].encode()
        idle.sendall(b"GET /project HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + key + b"\r\n\r\n")
        assert idle.recv(65536).startswith(b"HTTP/1.1 ")
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now - 1e8)
        web.server.drain()
        eventually(lambda: not web.thread.is_alive(), 30, "the end of the drained server")


def test_a_draining_server_finishes_what_is_in_flight(web: Web) -> None:
    web.noted.may_go.clear()
    with web.connect() as connection:
        connection.sendall(head("POST", "/project?project=web", **RAW, **{"Content-Length": "3"}) + b"abc")
        eventually(lambda: web.noted.launches == 1)
        web.server.drain()
        assert web.thread.is_alive()
        web.noted.may_go.set()
        answer = read_until_end(connection)
    assert answer.startswith(b"HTTP/1.1 201 ") and b"\r\nConnection: close\r\n" in answer
    web.thread.join(30)
    assert not web.thread.is_alive()


class Watched(socket.socket):
    """A socket that notes, for each copy that is made of it, whether its open file waits."""

    waits: ClassVar[List[bool]] = []

    def dup(self) -> Watched:
        copy = super().dup()
        self.waits.append(os.get_blocking(copy.fileno()))
        return copy


def test_a_second_server_does_not_make_the_first_one_wait_in_accept(web: Web) -> None:
    """Both share the open file of the listening socket, and with it the flag O_NONBLOCK (fcntl(2))."""
    first, web.listener = web.listener, Watched(fileno=os.dup(web.listener.fileno()))
    second = web.make_server()
    thread = web.start(second)
    second.drain()
    thread.join(40)
    web.listener.close()
    web.listener = first
    assert not thread.is_alive()
    assert Watched.waits and not any(Watched.waits)
