"""Which heads are surely a ping: the front thread answers those and judges nothing else."""

from __future__ import annotations

import pytest

from agent.web import pong

SURE = [
    b"GET /ping HTTP/1.1\r\n\r\n",
    b"HEAD /ping HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /ping HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    b"POST /ping HTTP/1.1\r\nContent-Length:00 \r\nContent-Length: 0\r\n\r\n",
    b"GET /ping?a=b&c HTTP/1.0\r\nX-Expect: 1\r\nConnection: keep-alive\r\n\r\n",
]
UNSURE = [
    b"PUT /ping HTTP/1.1\r\n\r\n",
    b"get /ping HTTP/1.1\r\n\r\n",
    b"GET /pings HTTP/1.1\r\n\r\n",
    b"GET /ping HTTP/2.0\r\n\r\n",
    b"GET /ping\r\n\r\n",
    b"GET  /ping HTTP/1.1\r\n\r\n",
    b"\r\nGET /ping HTTP/1.1\r\n\r\n",
    b"GET http://x/ping HTTP/1.1\r\n\r\n",
    b"GET /ping HTTP/1.1\r\nHost : x\r\n\r\n",
    b"GET /ping HTTP/1.1\r\nHost\r\n\r\n",
    b"GET /ping HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
    b"GET /ping HTTP/1.1\r\nA: b\nc: d\r\n\r\n",
    b"GET /ping HTTP/1.1\r\nA: \0\r\n\r\n",
    b"POST /ping HTTP/1.1\r\nContent-Length: 1\r\n\r\n",
    b"POST /ping HTTP/1.1\r\nContent-Length: 0, 5\r\n\r\n",
    b"POST /ping HTTP/1.1\r\nContent-Length:\r\n\r\n",
    b"POST /ping HTTP/1.1\r\ncontent-length: +0\r\n\r\n",
    b"POST /ping HTTP/1.1\r\nA: b\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
    b"POST /ping HTTP/1.1\r\nTransfer-Encoding: x\r\n\r\n",
    b"POST /ping HTTP/1.1\r\nA: b\r\ntransfer-encoding:\r\n\r\n",
    b"GET /ping HTTP/1.1\r\nExpect: 100-continue\r\n\r\n",
    b"GET /ping HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
]


@pytest.mark.parametrize("head", SURE)
def test_surely_a_ping(head: bytes) -> None:
    assert pong.read(head) is not None


@pytest.mark.parametrize("head", UNSURE)
def test_not_surely_a_ping(head: bytes) -> None:
    assert pong.read(head) is None


@pytest.mark.parametrize(
    ("head", "closes"),
    [
        (b"GET /ping HTTP/1.1\r\n\r\n", False), (b"GET /ping HTTP/1.0\r\n\r\n", True),
        (b"GET /ping HTTP/1.1\r\nA: b\r\nconnection: TE,Close\r\n\r\n", True),
        (b"GET /ping HTTP/1.1\r\nConnection: keep-alive\r\n\r\n", False),
        (b"GET /ping HTTP/1.1\r\nX-Connection: close\r\n\r\n", False),
    ],
)  # fmt: skip
def test_when_the_connection_ends(head: bytes, closes: bool) -> None:
    ping = pong.read(head)
    assert ping is not None and pong.wants_close(ping) is closes
    assert (b"Connection: close" in pong.reply(ping, pong.wants_close(ping))) is closes


@pytest.mark.parametrize("piece", [b" ", b"A: b\r\n", b"a", b":", b"A:\t\r\n", b"content-length: 0\r\n", b"\t"])
def test_near_misses_of_64_kib_cost_linear_time(piece: bytes) -> None:
    head = b"GET /ping HTTP/1.1\r\n" + piece * (65536 // len(piece)) + b"\0\r\n\r\n"
    assert pong.read(head) is None  # quadratic time would be minutes
