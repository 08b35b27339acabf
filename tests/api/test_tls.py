"""TLS inside the agent, with certificates that the real openssl made."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import queue
import shutil
import socket
import ssl
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import pytest

from agent.host.certificates import Certificate, client_context
from agent.shim.record import Want, write_want
from agent.store import keys
from agent.web.server import ServerSettings
from agent.web.tls import Terminator
from tests.api.conftest import BEARER, RAW, Web, head, read_until_end
from tests.support import http as plain
from tests.support.authority import Authority
from tests.support.http import Response
from tests.support.wait import eventually

#: More than the buffers of a few sockets hold.
BIG = os.urandom(1 << 20) * 24


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "theirs")


@pytest.fixture
def web(serve: Callable[..., Web], authority: Authority) -> Web:
    """An agent that speaks TLS."""
    return encrypted(serve, authority.issue("server"))


@pytest.fixture
def mutual(serve: Callable[..., Web], authority: Authority) -> Web:
    """An agent that asks its clients for certificates, too."""
    return encrypted(serve, authority.issue("server"), str(authority.certificate))


def encrypted(serve: Callable[..., Web], pem: Path, client_ca: Optional[str] = None) -> Web:
    web: Web = serve(certificate=Certificate(str(pem), str(pem), client_ca))
    return web


def call(
    web: Web, tls: ssl.SSLContext, method: str = "GET", path: str = "/project", body: Any = None,
    headers: Optional[Dict[str, str]] = None,
) -> Response:  # fmt: skip
    connection = http.client.HTTPSConnection(*web.address, timeout=60, context=tls)
    try:
        connection.request(method, path, body, BEARER if headers is None else headers)
        answer = connection.getresponse()
        return Response(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def test_calls_are_as_without_tls(web: Web, authority: Authority) -> None:
    tls = authority.trusted_by()
    assert call(web, tls, path="/ping", headers={}).body == b"pong"
    assert call(web, tls).json == {"called": "describe_all"}
    assert call(web, tls, headers={}).status == 401
    uploaded = call(web, tls, "POST", "/project?project=big", BIG, RAW)
    assert uploaded.status == 201
    assert [hashlib.sha256(data).digest() for data in web.noted.artifacts] == [hashlib.sha256(BIG).digest()]


def test_a_long_answer_arrives_whole(web: Web, authority: Authority) -> None:
    layout = web.store.project("web")
    os.makedirs(layout.logs)
    write_want(layout, Want(True, 1, "1"))
    lines = b"".join(b"line %08d\n" % number for number in range(1_000_000))
    Path(layout.logs, "output-00000001.log").write_bytes(lines)
    tls = authority.trusted_by()
    tar = call(web, tls, path="/project/web/logs")
    assert tar.status == 200 and lines in tar.body
    assert call(web, tls, path="/project/web/logs?format=text").body == lines


def test_one_connection_serves_many_calls(web: Web, authority: Authority) -> None:
    with contextlib.closing(http.client.HTTPSConnection(*web.address, timeout=60, context=authority.trusted_by())) as connection:
        for _ in range(2):
            connection.request("GET", "/ping")
            assert connection.getresponse().read() == b"pong"
        for _ in range(3):
            connection.request("GET", "/project", headers=BEARER)
            assert json.loads(connection.getresponse().read()) == {"called": "describe_all"}


def test_the_audit_log_has_the_real_address(web: Web, authority: Authority) -> None:
    assert call(web, authority.trusted_by(), "DELETE", "/project/web").status == 200
    assert web.audited()[-1]["from"] == "127.0.0.1"


def test_a_refused_upload_reads_why(web: Web, authority: Authority) -> None:
    """Without a key: the answer comes while the client still sends, and is not lost by a reset."""
    with authority.trusted_by().wrap_socket(web.connect(), server_hostname="localhost") as connection:
        connection.sendall(head("POST", "/project?project=big", **{"Content-Length": str(len(BIG))}) + b"x" * 100_000)
        assert read_until_end(connection).startswith(b"HTTP/1.1 401 ")
    assert web.staged() == []


def test_a_cut_upload_leaves_nothing(web: Web, authority: Authority) -> None:
    connection = authority.trusted_by().wrap_socket(web.connect(), server_hostname="localhost")
    connection.sendall(head("POST", "/project?project=big", **{**RAW, "Content-Length": "1000000"}) + b"x" * 100_000)
    eventually(web.staged, 30, "the upload has begun")
    connection.close()
    eventually(lambda: not web.staged(), 30, "nothing is left of it")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions(web: Web, authority: Authority, version: ssl.TLSVersion) -> None:
    tls = authority.trusted_by()
    tls.minimum_version = tls.maximum_version = version
    assert call(web, tls, "POST", "/project?project=big", BIG, RAW).status == 201


def test_older_versions_are_refused(web: Web, authority: Authority) -> None:
    tls = authority.trusted_by()
    tls.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        tls.minimum_version = tls.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError, match=r"(?i)tls|ssl|reset|eof"):
        call(web, tls)


def test_plain_http_is_told_what_to_do(web: Web) -> None:
    answer = plain.request(web.address, "GET", "/ping")
    assert answer.status == 400 and "TLS" in answer.json["detail"]
    assert "https" in answer.json["hint"]


def test_wrong_authority(web: Web, stranger: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        call(web, stranger.trusted_by())


def test_silent_and_slow_handshakes_hold_nobody_up(web: Web, authority: Authority) -> None:
    """None or two bytes of a handshake, from many at once."""
    idle: List[socket.socket] = []
    try:
        for index in range(300):
            idle.append(web.connect())
            if index % 2:
                idle[-1].sendall(b"\x16\x03")
        assert call(web, authority.trusted_by(), path="/ping", headers={}).body == b"pong"
        assert call(web, authority.trusted_by()).status == 200
    finally:
        for connection in idle:
            connection.close()


def test_the_oldest_handshake_gives_way(authority: Authority) -> None:
    pem = str(authority.issue("server"))
    delivered: queue.Queue[Any] = queue.Queue()
    terminator = Terminator(Certificate(pem, pem), lambda plain, address: delivered.put((plain, address)), 2, 3600.0)
    pairs = [socket.socketpair() for _ in range(3)]
    for number, (_, theirs) in enumerate(pairs):
        terminator.take(theirs, number)
    assert delivered.get(timeout=60) == (None, 0)
    eventually(lambda: terminator.count == 2, 30, "two are left")
    tls = client_context(pem, is_pinned=True)
    with tls.wrap_socket(pairs[2][0], server_hostname="localhost") as client:
        plain, number = delivered.get(timeout=60)
        assert number == 2
        client.sendall(b"hello")
        plain.settimeout(60)
        assert plain.recv(100) == b"hello"
        plain.close()
    for ours, _ in pairs:
        ours.close()
    eventually(lambda: terminator.count == 0, 30, "none is left")


def test_a_handshake_that_takes_too_long_is_ended(web: Web) -> None:
    with web.connect() as connection:
        connection.sendall(b"\x16\x03\x01\x01")
        connection.settimeout(60)
        assert connection.recv(1000) == b""


# ---------------------------------------------------------------------- clients' certificates


def refused(web: Web, tls: ssl.SSLContext) -> bool:
    with pytest.raises(OSError, match=r"(?i)alert|closed|reset|eof|broken|without response"):
        call(web, tls)
    return True


def test_without_a_certificate_of_ours_nobody_gets_in(mutual: Web, authority: Authority, stranger: Authority) -> None:
    assert call(mutual, authority.trusted_by(authority.issue("client"))).status == 200
    assert refused(mutual, authority.trusted_by())
    assert refused(mutual, authority.trusted_by(stranger.issue("client")))
    assert refused(mutual, authority.trusted_by(authority.issue("late", expired=True)))


def test_a_certificate_alone_is_no_key(mutual: Web, authority: Authority) -> None:
    tls = authority.trusted_by(authority.issue("client"))
    assert call(mutual, tls, headers={}).status == 401


@pytest.mark.parametrize(("alternative", "name"), [("DNS:ci.example", "ci.example"), ("URI:spiffe://a/ci", "spiffe://a/ci")])
def test_a_certificate_can_stand_for_a_key(mutual: Web, authority: Authority, alternative: str, name: str) -> None:
    keys.add(mutual.store, "ci", "read", ["web"], certificate=name)
    keys.add(mutual.store, "cn", "deploy", certificate="by-common-name")
    by_name = authority.trusted_by(authority.issue("client", alternative))
    assert call(mutual, by_name, path="/project/web", headers={}).status == 200
    assert call(mutual, by_name, path="/project/other", headers={}).status == 403
    assert call(mutual, by_name, "DELETE", "/project/web", headers={}).status == 403
    common = authority.trusted_by(authority.issue("by-common-name", "DNS:x.example"))
    assert call(mutual, common, "DELETE", "/project/web", headers={}).status == 200
    assert mutual.audited()[-1]["who"] == "cn"
    wrong = {"Authorization": "Bearer wrong"}
    assert call(mutual, by_name, headers=wrong).status == 401, "a wrong key is not made good by a certificate"
    keys.revoke(mutual.store, "ci")
    assert call(mutual, by_name, path="/project/web", headers={}).status == 401


# ---------------------------------------------------------------------- certificates that change


def test_certificates_are_read_again(
    serve: Callable[..., Web], authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    pem = tmp_path / "pem"
    shutil.copy(authority.issue("server"), pem)
    web = encrypted(serve, pem)
    kept = http.client.HTTPSConnection(*web.address, timeout=60, context=authority.trusted_by())
    kept.request("GET", "/ping")
    assert kept.getresponse().read() == b"pong"
    shutil.copy(stranger.issue("server"), pem)
    assert call(web, authority.trusted_by()).status == 200, "nothing changes by itself"
    web.server.reload_certificates()
    assert call(web, stranger.trusted_by()).status == 200
    kept.request("GET", "/ping")
    assert kept.getresponse().read() == b"pong"
    kept.close()
    pem.write_text("nonsense")
    web.server.reload_certificates()
    assert call(web, stranger.trusted_by()).status == 200, "what can't be used changes nothing"


def test_a_client_pins_the_very_certificate(serve: Callable[..., Web], authority: Authority) -> None:
    pem = authority.issue("server", "DNS:elsewhere.example")
    web = encrypted(serve, pem)
    assert call(web, client_context(str(pem), is_pinned=True)).status == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        call(web, client_context(str(authority.issue("another")), is_pinned=True))
    with pytest.raises(ssl.SSLCertVerificationError):
        call(web, client_context(str(authority.certificate)))


def test_settings_without_a_certificate_load_no_tls() -> None:
    assert ServerSettings().certificate is None
