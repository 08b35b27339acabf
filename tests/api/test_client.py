"""The client against a scripted server: what it sends, and what it makes of every kind of answer."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, List

import pytest

from agent.client import Client
from agent.connection import ConnectionLost
from agent.errors import (
    AgentError,
    ArtifactFault,
    Busy,
    Conflict,
    MalformedRequest,
    StorageFull,
    Unauthenticated,
    Unreachable,
)

BIG = bytes(range(256)) * 16 * 1024  # 4 MiB: more than both socket buffers hold

Script = Callable[[socket.socket], None]


class Scripted:
    """A listening socket; each connection is handled by the next script, in order."""

    def __init__(self, scripts: List[Script]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.heads: List[bytes] = []
        self._thread = threading.Thread(target=self._run, args=(scripts,))
        self._thread.start()

    def _run(self, scripts: List[Script]) -> None:
        with self._listener:
            for script in scripts:
                connection, _ = self._listener.accept()
                with connection:
                    head = b""
                    while b"\r\n\r\n" not in head:
                        head += connection.recv(1)
                    self.heads.append(head)
                    script(connection)

    def join(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive(), "fewer connections came than there are scripts"


@contextmanager
def serving(*scripts: Script) -> Iterator[Scripted]:
    server = Scripted(list(scripts))
    yield server
    server.join()


def answer(status: str, document: object, extra: str = "", kind: str = "application/json") -> bytes:
    body = json.dumps(document).encode()
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


def problem(error: AgentError) -> bytes:
    return answer(f"{error.status} X", error.to_problem(), kind="application/problem+json")


def says(data: bytes) -> Script:
    return lambda connection: connection.sendall(data)


def takes(size: int, data: bytes, into: List[bytes]) -> Script:
    """Says 100 Continue, takes the whole body, answers."""

    def script(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = b""
        while len(body) < size:
            body += connection.recv(1 << 20)
        into.append(body)
        connection.sendall(data)

    return script


def breaks(connection: socket.socket) -> None:
    """Takes the call on, reads a little and resets the connection (close with unread bytes: tcp(7))."""
    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    connection.recv(1000)


REPLY = {"status": "LaunchSuccessful", "project": "web", "version": "1"}


def test_ping_needs_no_key() -> None:
    with serving(says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npong\n")) as server:
        assert Client(server.url).ping() == "pong"
    assert b"Authorization" not in server.heads[0]


def test_another_server_is_not_taken_for_an_agent() -> None:
    with serving(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), says(answer("200 OK", [1]))) as server:
        with pytest.raises(Unreachable, match="not as an ant-host-agent"):
            Client(server.url).ping()
        with pytest.raises(Unreachable, match="not as an ant-host-agent"):
            Client(server.url).describe()


def test_what_speaks_no_http_is_said() -> None:
    with serving(says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")) as server, pytest.raises(Unreachable, match="speak HTTP"):
        Client(server.url).ping()


@pytest.mark.parametrize("size", [1000, len(BIG)])
def test_launch_sends_the_artifact_and_its_digest(tmp_path: Path, size: int) -> None:
    data, bodies, seen = BIG[:size], [], []  # type: ignore[var-annotated]
    (tmp_path / "a.tar").write_bytes(data)
    with serving(takes(size, answer("201 Created", REPLY), bodies)) as server:
        client = Client(server.url + "/", "key")
        reply = client.launch("web", str(tmp_path / "a.tar"), "1+b", on_progress=lambda *done: seen.append(done))
    assert reply == REPLY
    head = server.heads[0].decode()
    assert bodies == [data]
    digest = hashlib.sha256(data).hexdigest()
    assert head.startswith(f"POST /project?project=web&sha256={digest}&version=1%2Bb HTTP/1.1")
    assert "Authorization: Bearer key" in head and "application/octet-stream" in head
    assert ("Expect: 100-continue" in head) is (size > 1000)
    assert seen[-1] == (size, size)


def test_a_prefix_before_a_proxied_agent_is_kept() -> None:
    with serving(says(answer("200 OK", {"projects": []}))) as server:
        assert Client(server.url + "/agents/7/").describe() == {"projects": []}
    assert server.heads[0].startswith(b"GET /agents/7/project HTTP/1.1")


def test_a_refusal_of_the_head_costs_no_upload() -> None:
    left: List[bytes] = []

    def refuses(connection: socket.socket) -> None:
        connection.sendall(problem(Unauthenticated()))
        connection.shutdown(socket.SHUT_WR)
        left.append(connection.recv(1))

    with serving(refuses) as server, pytest.raises(Unauthenticated):
        Client(server.url, "bad").launch("web", io.BytesIO(BIG))
    assert left == [b""]


@pytest.mark.parametrize("continued", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n"])
def test_a_refusal_in_the_middle_is_heard(continued: bytes) -> None:
    """The server answers and closes with bytes unread, so the client's next send breaks."""

    def refuses(connection: socket.socket) -> None:
        for byte in continued:
            connection.sendall(bytes([byte]))
        connection.recv(100_000)
        connection.sendall(problem(StorageFull("The disk is full.", "Free some space.", project="web")))

    with serving(refuses) as server, pytest.raises(StorageFull) as caught:
        Client(server.url).launch("web", io.BytesIO(BIG))
    assert (caught.value.detail, caught.value.hint) == ("The disk is full.", "Free some space.")
    assert caught.value.members == {"project": "web"}


def test_a_failed_launch_comes_with_its_step_and_last_output() -> None:
    fault = ArtifactFault("It exited with code 1.", "Read its output.", step="start", log_tail=["boom"])
    with serving(says(problem(fault))) as server, pytest.raises(ArtifactFault) as caught:
        Client(server.url).launch("web", io.BytesIO(b"x"))
    assert caught.value.members == {"step": "start", "log_tail": ["boom"]}


def test_a_broken_launch_is_sent_again_whole_and_with_the_same_digest() -> None:
    bodies: List[bytes] = []
    done = takes(len(BIG), answer("200 OK", REPLY), bodies)
    with serving(breaks, lambda connection: None, done) as server:
        assert Client(server.url).launch("web", io.BytesIO(BIG)) == REPLY
    assert bodies == [BIG]
    assert len({head.split(b"\r\n")[0] for head in server.heads}) == 1


def test_a_launch_whose_first_call_goes_on_is_waited_for() -> None:
    under_way = problem(Conflict("Another call is changing web.", project="web", under_way=True))
    done = answer("200 OK", REPLY)
    with serving(breaks, says(under_way), says(under_way), says(done)) as server:
        assert Client(server.url).launch("web", io.BytesIO(b"x")) == REPLY
    with serving(says(under_way)) as server, pytest.raises(Conflict):  # somebody else's
        Client(server.url).launch("web", io.BytesIO(b"x"))
    with serving(breaks, says(problem(Conflict("The version is taken.")))) as server, pytest.raises(Conflict, match="taken"):
        Client(server.url).launch("web", io.BytesIO(b"x"))


def test_a_launch_that_keeps_breaking_says_that_it_may_have_happened() -> None:
    with serving(breaks, breaks) as server, pytest.raises(ConnectionLost, match="broke") as caught:
        Client(server.url).launch("web", io.BytesIO(BIG), retries=1)
    assert "Launching the same artifact again is safe" in str(caught.value.hint)


def test_a_cut_answer_is_a_lost_connection() -> None:
    cut = answer("200 OK", {"projects": []})[:-3]
    with serving(says(cut)) as server, pytest.raises(ConnectionLost):
        Client(server.url).describe()


def test_only_a_broken_connection_is_tried_again() -> None:
    busy = Busy("Two uploads are running.", retry_after_seconds=5)
    with serving(says(problem(busy))) as server, pytest.raises(Busy, match="Two uploads"):
        Client(server.url).launch("web", io.BytesIO(b"x"))


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unreachable, match=f"127.0.0.1:{port}") as caught:
        Client(f"http://127.0.0.1:{port}").launch("web", io.BytesIO(b"x"))
    assert "Start the agent" in str(caught.value.hint)


def test_silence_is_no_lost_connection_and_is_not_repeated() -> None:
    release = threading.Event()

    def stays_silent(connection: socket.socket) -> None:
        release.wait(10)

    with serving(stays_silent) as server:
        try:
            with pytest.raises(Unreachable, match="silent") as caught:
                Client(server.url, timeout_seconds=0.05).describe()
        finally:
            release.set()
    assert not isinstance(caught.value, ConnectionLost)


@pytest.mark.parametrize(
    ("call", "line", "body"),
    [
        (lambda c: c.kill("web"), "DELETE /project/web HTTP", None),
        (lambda c: c.kill("web", 1.5, True), "DELETE /project/web?grace_seconds=1.5&purge=true HTTP", None),
        (lambda c: c.status("web"), "GET /project/web HTTP", None),
        (lambda c: c.describe(), "GET /project HTTP", None),
        (lambda c: c.history("web"), "GET /project/web/history HTTP", None),
        (lambda c: c.restart("web"), "POST /project/web/restart HTTP", None),
        (lambda c: c.rollback("web"), "POST /project/web/rollback HTTP", {}),
        (lambda c: c.rollback("web", "1"), "POST /project/web/rollback HTTP", {"version": "1"}),
        (
            lambda c: c.launch_url("web", "http://b/a", "0" * 64), "POST /project HTTP",
            {"project": "web", "artifact_url": "http://b/a", "sha256": "0" * 64},
        ),
    ],
)  # fmt: skip
def test_each_method_is_one_call(call: Callable[[Client], object], line: str, body: object) -> None:
    bodies: List[object] = []

    def script(connection: socket.socket) -> None:
        if body is not None:
            bodies.append(json.loads(connection.recv(65536)))
        connection.sendall(answer("200 OK", {"ok": 1}))

    with serving(script) as server:
        assert call(Client(server.url)) == {"ok": 1}
    assert server.heads[0].decode().startswith(line)
    assert bodies == ([] if body is None else [body])


def test_an_unwell_agent_is_an_answer() -> None:
    with serving(says(answer("503 Service Unavailable", {"status": "unwell"}))) as server:
        assert Client(server.url).health() == {"status": "unwell"}


@pytest.mark.parametrize(
    ("status", "kind"), [("502 Bad Gateway", Unreachable), ("409 Conflict", Conflict), ("500 X", AgentError)]
)
def test_what_a_proxy_says_becomes_the_nearest_kind(status: str, kind: type[AgentError]) -> None:
    page = f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>".encode()
    with serving(says(page)) as server, pytest.raises(kind, match=status):
        Client(server.url).describe()


def test_a_bad_project_id_is_never_sent() -> None:
    with pytest.raises(MalformedRequest, match=r"\.\./x"):
        Client("http://127.0.0.1:1").logs("../x")


def test_logs_are_streamed_and_saved() -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\nContent-Length: {len(BIG)}\r\n\r\n".encode()
    with serving(says(head + BIG), says(head + BIG)) as server:
        file = io.BytesIO()
        with Client(server.url).logs("web") as download:
            assert download.size_bytes == len(BIG)
            assert download.save(file) == len(BIG)
        assert file.getvalue() == BIG
        with Client(server.url).logs("web") as download:
            assert b"".join(iter(lambda: download.read(7777), b"")) == BIG
    assert server.heads[0].startswith(b"GET /project/web/logs HTTP/1.1")


def test_logs_that_break_off_never_look_whole() -> None:
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + bytes(1000)
    with serving(says(cut)) as server, Client(server.url).logs("web") as download, pytest.raises(ConnectionLost):
        download.save(io.BytesIO())
