"""T06, T11: whoever has no key costs the host nothing that stays: no byte on its disk, no memory, no descriptor, no ping."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import socket
import ssl
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Sequence

import pytest

from tests.support.agent import AgentHost
from tests.support.authority import Authority
from tests.support.wait import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.newest]

_POST = b"POST /project?project=flood HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
_TEN_GIB = b"Content-Length: 10737418240\r\n"
#: What a connection of each kind sends first; then `drip` sends it a byte at a time what follows.
KINDS: Dict[str, bytes] = {
    "idle": b"",
    "half a head": b"POST /project HTTP/1.1\r\nHost: local",
    "a head that comes slowly": b"G",
    "no http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32),
    "a head and a slow body": _POST + _TEN_GIB + b"\r\nx",
    "a head that waits to go on": _POST + _TEN_GIB + b"Expect: 100-continue\r\n\r\n",
    "a wrong key": _POST + b"Authorization: Bearer wrong\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n",
    "a ping with a slow body": b"POST /ping HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\nx",
}


def client_hello() -> bytes:
    """The first record of a TLS connection."""
    sent = ssl.MemoryBIO()
    context = ssl.create_default_context()
    client = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


#: The same for an agent that speaks TLS, where nobody ever finishes the handshake.
TLS_KINDS: Dict[str, bytes] = {
    "nothing": b"",
    "no TLS": b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "the first byte": b"\x16",
    "half a ClientHello": client_hello()[:200],
    "a ClientHello and no more": client_hello(),
    "garbage in a record": b"\x16\x03\x01\x02\x00" + bytes(range(256)) * 2,
    "a record that never ends": b"\x16\x03\x01\x3f\xff\x01\x00\x3f\xfb" + bytes(2000),
}
#: What may stay of a flood: memory that Python keeps for the next one.
_RSS_SLACK_KIB = 24 * 1024


def descriptors(host: AgentHost) -> int:
    return len(os.listdir(f"/proc/{host.agent_pid}/fd"))


def rss_kib(host: AgentHost) -> int:
    with open(f"/proc/{host.agent_pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))


def stored_bytes(host: AgentHost) -> int:
    """What lies in the store, but for what the agent itself writes about such calls."""
    total = 0
    for folder, _, names in os.walk(host.store):
        own = "ant-host-agent/logs" in folder or folder == host.store
        total += sum(os.path.getsize(os.path.join(folder, name)) for name in names if not own)
    return total


@contextlib.contextmanager
def unchanged(host: AgentHost) -> Iterator[None]:
    """After the block the agent has the descriptors and about the memory that it had before, and nothing was stored."""
    before, memory, stored = descriptors(host), rss_kib(host), stored_bytes(host)
    yield
    eventually(lambda: descriptors(host) <= before, 60, lambda: f"{descriptors(host)} descriptors, {before} before")
    eventually(lambda: rss_kib(host) <= memory + _RSS_SLACK_KIB, 60, lambda: f"{rss_kib(host)} KiB, {memory} before")
    assert stored_bytes(host) == stored
    assert host.staging() == []


def drip(connections: List[socket.socket]) -> None:
    """One byte more for each that is still open."""
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.send(b"x")


def flood(host: AgentHost, kinds: Sequence[bytes], count: int) -> None:
    """So many connections, of each kind in turn, and the agent answers meanwhile."""
    with contextlib.ExitStack() as stack:
        connections = []
        for number in range(count):
            connection = stack.enter_context(socket.create_connection(host.address, timeout=60))
            with contextlib.suppress(ConnectionError):
                connection.sendall(kinds[number % len(kinds)])
            connections.append(connection)
            if number % (count // 20) == 0:
                drip(connections)
                assert host.is_answering()
                assert host.staging() == []
        drip(connections)
        assert host.request("GET", "/healthz").status == 200
        assert host.is_answering()


def more_descriptors(count: int) -> None:
    """Let this process have that many more; ValueError where the host forbids it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count + 200:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count + 200, hard))


@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_connections(host: AgentHost, kind: str) -> None:
    flood(host, [KINDS[kind]], 20)  # Python takes what memory it likes to keep
    with unchanged(host):
        flood(host, [KINDS[kind]], 100)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_t11_a_thousand_connections(host: AgentHost, kind: str) -> None:
    more_descriptors(1000)
    flood(host, [KINDS[kind]], 20)
    with unchanged(host):
        flood(host, [KINDS[kind]], 1000)


@pytest.fixture
def encrypted(pyz: str, python: str, tmp_path: Path) -> Iterator[AgentHost]:
    """An agent with TLS of its own."""
    authority = Authority(tmp_path / "authority")
    pair = str(authority.issue("agent"))
    arguments = ("--tls-cert", pair, "--tls-key", pair)
    with AgentHost(pyz, python, arguments=arguments, tls=authority.trusted_by()) as host:
        yield host


def test_a_hundred_handshakes_that_never_end(encrypted: AgentHost) -> None:
    flood(encrypted, list(TLS_KINDS.values()), 20)
    with unchanged(encrypted):
        flood(encrypted, list(TLS_KINDS.values()), 100)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TLS_KINDS)
def test_t11_a_thousand_handshakes_that_never_end(encrypted: AgentHost, kind: str) -> None:
    more_descriptors(1000)
    flood(encrypted, [TLS_KINDS[kind]], 20)
    with unchanged(encrypted):
        flood(encrypted, [TLS_KINDS[kind]], 1000)


@pytest.mark.slow
def test_t11_a_thousand_strangers_that_do_shake_hands(encrypted: AgentHost) -> None:
    """And say nothing then, or ping now and then to keep their place."""
    more_descriptors(1000)

    def crowd(count: int) -> None:
        with contextlib.ExitStack() as stack:
            for number in range(count):
                plain = stack.enter_context(socket.create_connection(encrypted.address, timeout=60))
                assert encrypted.tls is not None
                client = stack.enter_context(encrypted.tls.wrap_socket(plain, server_hostname="localhost"))
                if number % 2:
                    client.sendall(TLS_KINDS["no TLS"])
                    assert client.recv(4096).endswith(b"pong")
                if number % (count // 20) == 0:
                    assert encrypted.is_answering()
            assert encrypted.request("GET", "/healthz").status == 200

    crowd(20)
    with unchanged(encrypted):
        crowd(1000)


def send_until_cut(connection: socket.socket, sent: bytes, look: Callable[[], None]) -> int:
    """Send the head, then zeros for as long as the other side takes them; how many. `look` is called after each piece."""
    connection.sendall(sent)
    zeros, count = bytes(1 << 16), 0
    with contextlib.suppress(ConnectionError):
        while count < 10 << 30:
            select.select([], [connection], [], 60)
            count += connection.send(zeros)
            look()
    return count


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
@pytest.mark.parametrize("key", [b"", b"Authorization: Bearer wrong\r\n"])
@pytest.mark.parametrize("size", [_TEN_GIB, b"Transfer-Encoding: chunked\r\n"])
def test_t06_ten_gibibytes_without_a_key(host: AgentHost, expect: bytes, key: bytes, size: bytes) -> None:
    def look() -> None:
        assert host.staging() == []

    with unchanged(host):
        with socket.create_connection(host.address, timeout=60) as connection:
            head = _POST + key + size + expect + b"\r\n" + (b"10000\r\n" if b"chunked" in size else b"")
            count = send_until_cut(connection, head, look)
        assert count < 64 << 20, "the agent reads on and on"
        assert host.is_answering()
