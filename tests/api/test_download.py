"""Fetching an artifact: all of it within the limits, or a reason and no file."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from pathlib import Path
from typing import Callable, Iterator, List

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from agent.errors import AgentError, ArtifactFault, MalformedRequest, StorageFull, TooLarge
from agent.store.download import check_digest, fetch

CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where to; after a failure nothing may be there."""
    return str(tmp_path / "artifact")


@pytest.fixture
def scripted() -> Iterator[Callable[[List[bytes]], str]]:
    """A server that answers any request with these pieces, then waits for the client to go (or closes at b"")."""
    threads: List[threading.Thread] = []
    over = threading.Event()

    def start(pieces: List[bytes], pause_seconds: float = 0.0) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/artifact"

        def serve() -> None:
            with listener, listener.accept()[0] as connection:
                connection.recv(65536)
                for piece in pieces:
                    if not piece:
                        return
                    try:
                        connection.sendall(piece)
                    except OSError:
                        return
                    if pause_seconds and over.wait(pause_seconds):
                        return
                over.wait(30)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return url

    yield start
    over.set()
    for thread in threads:
        thread.join(10)


def refused(kind: type[AgentError], path: str, url: str, **options: float) -> str:
    with pytest.raises(kind) as raised:
        fetch(url, path, limit_bytes=int(options.pop("limit_bytes", 2 << 20)), **options)  # type: ignore[arg-type]
    assert not os.path.exists(path)
    return raised.value.detail


def test_all_of_it_with_its_digest(httpserver: HTTPServer, path: str) -> None:
    httpserver.expect_request("/a").respond_with_data(CONTENT)
    assert fetch(httpserver.url_for("/a"), path, 2 << 20) == (hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    assert Path(path).read_bytes() == CONTENT
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_redirects_are_followed_a_few_times(httpserver: HTTPServer, path: str) -> None:
    for i in range(5):
        code = (301, 302, 303, 307, 308)[i]
        httpserver.expect_request(f"/{i}").respond_with_data(status=code, headers={"Location": f"/{i + 1}"})
    httpserver.expect_request("/5").respond_with_data(CONTENT)
    assert fetch(httpserver.url_for("/0"), path, 2 << 20)[1] == len(CONTENT)


def test_a_redirect_loop_ends(httpserver: HTTPServer, path: str) -> None:
    httpserver.expect_request("/a").respond_with_data(status=302, headers={"Location": "/a"})
    assert "more than 5 times" in refused(ArtifactFault, path, httpserver.url_for("/a"))
    assert len(httpserver.log) == 6


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "//u:p@h/", "gopher://x", "data:,x"])
def test_a_redirect_to_another_scheme_is_refused(httpserver: HTTPServer, path: str, target: str) -> None:
    httpserver.expect_request("/a").respond_with_data(status=302, headers={"Location": target})
    assert "redirects to" in refused(ArtifactFault, path, httpserver.url_for("/a"))


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://h/x", "/etc/passwd", "", "http://", "http:///x", "http://u:p@h/", "http://h/a b",
     "http://h:99999/", "http://h/\r\nX: y", "http://[/", "HTTPS//h", "http://h/ä"],
)  # fmt: skip
def test_what_is_no_http_url_is_refused(path: str, url: str) -> None:
    assert "artifact_url" in refused(MalformedRequest, path, url)


@pytest.mark.parametrize("status", [404, 403, 500, 304])
def test_a_refusal_of_the_server_is_told(httpserver: HTTPServer, path: str, status: int) -> None:
    httpserver.expect_request("/a").respond_with_data("no", status=status)
    assert f"answered {status}" in refused(ArtifactFault, path, httpserver.url_for("/a"))


def test_nobody_listens(path: str) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert "connection failed" in refused(ArtifactFault, path, f"http://127.0.0.1:{bound.getsockname()[1]}/")


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", b""],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nabc", b""],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b""],
    ],
)
def test_what_is_cut_short_is_refused(scripted: Callable[..., str], path: str, pieces: List[bytes]) -> None:
    assert "cut short" in refused(ArtifactFault, path, scripted(pieces))


@pytest.mark.parametrize("pieces", [[b"hello"], [b""], [b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"]])
def test_what_is_no_http_is_refused(scripted: Callable[..., str], path: str, pieces: List[bytes]) -> None:
    assert "artifact_url" in refused(ArtifactFault, path, scripted([*pieces, b""]))


def test_silence_ends_after_the_time_out(scripted: Callable[..., str], path: str) -> None:
    assert "nothing came for 0.2 s" in refused(ArtifactFault, path, scripted([]), timeout_seconds=0.2)
    start = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"
    assert "nothing came for 0.2 s" in refused(ArtifactFault, path, scripted([start]), timeout_seconds=0.2)


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: "])
def test_a_byte_now_and_then_ends_at_the_deadline(scripted: Callable[..., str], path: str, start: bytes) -> None:
    url = scripted([start, *[b"x"] * 1000], 0.02)
    assert "not finished within 0.3 s" in refused(ArtifactFault, path, url, timeout_seconds=5, deadline_seconds=0.3)


def test_too_much_is_refused_at_its_announcement_or_at_the_limit(
    httpserver: HTTPServer, scripted: Callable[..., str], path: str
) -> None:
    httpserver.expect_request("/a").respond_with_data(CONTENT)
    assert str(len(CONTENT)) in refused(TooLarge, path, httpserver.url_for("/a"), limit_bytes=1000)
    endless = scripted([b"HTTP/1.1 200 OK\r\n\r\n", *[CONTENT] * 3])
    assert "at most 1000 bytes" in refused(TooLarge, path, endless, limit_bytes=1000)


def test_the_environments_proxies_are_not_asked(httpserver: HTTPServer, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    httpserver.expect_request("/a").respond_with_data(b"abc")
    assert fetch(httpserver.url_for("/a"), path, 100)[1] == 3


def test_space_is_asked_for_before_the_first_byte(httpserver: HTTPServer, path: str) -> None:
    def refuse(size: int) -> None:
        raise StorageFull(f"no room for {size}")

    httpserver.expect_request("/a").respond_with_data(CONTENT)
    with pytest.raises(StorageFull, match=str(len(CONTENT))):
        fetch(httpserver.url_for("/a"), path, 2 << 20, require_space=refuse)
    assert not os.path.exists(path)


def test_our_own_disk_is_not_the_downloads_fault(httpserver: HTTPServer, tmp_path: Path) -> None:
    httpserver.expect_request("/a").respond_with_data(b"abc")
    with pytest.raises(FileNotFoundError):
        fetch(httpserver.url_for("/a"), str(tmp_path / "absent" / "artifact"), 100)


def test_no_key_of_ours_is_sent(httpserver: HTTPServer, path: str) -> None:
    seen: List[List[str]] = []

    def answer(request: Request) -> Response:
        seen.append(sorted(name.lower() for name, _ in request.headers))
        return Response(b"abc")

    httpserver.expect_request("/a").respond_with_handler(answer)
    fetch(httpserver.url_for("/a"), path, 100)
    assert seen == [["accept-encoding", "connection", "host", "user-agent"]]


def test_digests_are_compared() -> None:
    check_digest("a" * 64, "a" * 64)
    with pytest.raises(ArtifactFault, match="b" * 64):
        check_digest("a" * 64, "b" * 64)
