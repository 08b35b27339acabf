"""The front thread at its limits: too many connections, and no descriptors left."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from typing import Any, Iterator, List

import pytest

from agent.web.front import Front
from tests.api.conftest import read_until_end

PING = b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@contextlib.contextmanager
def fronted(listener: socket.socket, **options: Any) -> Iterator[Front]:
    front = Front(listener, **options)
    front.start()
    try:
        yield front
    finally:
        front.stop()
        front.join(10)
        assert not front.is_alive()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A listening socket."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        yield listening


@pytest.fixture
def silent(listener: socket.socket) -> Iterator[List[socket.socket]]:
    """Connections in the listener's queue that say nothing."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(listener.getsockname(), 30)) for _ in range(60)]


def test_beyond_its_limit_the_oldest_connection_goes(listener: socket.socket, silent: List[socket.socket]) -> None:
    with fronted(listener, limit=10), socket.create_connection(listener.getsockname(), 30) as client:
        client.sendall(PING)
        assert read_until_end(client).endswith(b"pong")
        assert read_until_end(silent[0]) == b""
        silent[-1].sendall(PING)
        assert read_until_end(silent[-1]).endswith(b"pong")


def test_without_descriptors_the_oldest_connection_goes(listener: socket.socket, silent: List[socket.socket]) -> None:
    with fronted_later(listener) as front, socket.create_connection(listener.getsockname(), 30) as client:
        client.sendall(PING)
        with few_descriptors(5):
            front.start()
            assert read_until_end(client).endswith(b"pong")
        assert read_until_end(silent[0]) == b""


def test_without_any_descriptor_the_queue_waits(listener: socket.socket) -> None:
    with fronted_later(listener) as front, socket.create_connection(listener.getsockname(), 30) as client:
        client.sendall(PING)
        with few_descriptors(0):
            front.start()
            client.settimeout(0.3)
            with pytest.raises(socket.timeout):
                client.recv(1)
        client.settimeout(30)
        assert read_until_end(client).endswith(b"pong")


@contextlib.contextmanager
def fronted_later(listener: socket.socket) -> Iterator[Front]:
    """A front thread that has its own descriptors and is started by the test."""
    front = Front(listener)
    try:
        yield front
    finally:
        front.stop()
        front.join(10)


@contextlib.contextmanager
def few_descriptors(count: int) -> Iterator[None]:
    """Room for so many more descriptors in this process (setrlimit(2): the limit is on their numbers)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers: List[int] = []
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    while not fillers or fillers[-1] < highest + count:
        fillers.append(os.dup(0))
    for fd in fillers[len(fillers) - count :]:
        os.close(fd)
    del fillers[len(fillers) - count :]
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + count + 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in fillers:
            os.close(fd)


def test_a_client_that_speaks_tls_is_told_at_once(listener: socket.socket) -> None:
    with fronted(listener), socket.create_connection(listener.getsockname(), 30) as client:
        client.sendall(b"\x16\x03\x01\x02\x00\x01")
        answer = read_until_end(client)
    assert answer.startswith(b"HTTP/1.1 400 ") and b"Call http://" in answer
