"""T07: which Host is ours, and whose page may call."""

from __future__ import annotations

import socket
from typing import Dict, Optional

import pytest

from agent.errors import Forbidden, MalformedRequest, Misdirected
from agent.web.origin import Origins

LOCAL = "192.0.2.7"
ORIGINS = Origins(("::", "Deploy.Example.Net", "2001:DB8::0:1"))


def require(
    host: Optional[str], origin: Optional[str] = None, local: str = LOCAL, netloc: str = "", version: str = "1.1"
) -> None:
    headers: Dict[str, str] = {}
    if host is not None:
        headers["HOST"] = host
    if origin is not None:
        headers["ORIGIN"] = origin
    ORIGINS.require(version, headers, netloc, local)


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LocalHost:4499", "localhost.", LOCAL, LOCAL + ":1", "deploy.example.net", "DEPLOY.example.net:443",
        socket.gethostname(), socket.gethostname().partition(".")[0] + ".local", "[2001:db8::1]", "[2001:db8:0::1]:4499", "[::]",
    ],
)  # fmt: skip
def test_ours(host: str) -> None:
    require(host)


@pytest.mark.parametrize(
    ("local", "host"),
    [
        ("::ffff:192.0.2.9", "192.0.2.9"),
        ("fe80::1%eth0", "[fe80::1]"),
        ("::1", "[0:0:0:0:0:0:0:1]:80"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_the_address_that_was_connected_to_is_ours(local: str, host: str) -> None:
    require(host, local=local)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "localhost.evil.example", "evil.example:4499", "127.0.0.1", "192.0.2.70", "192.0.2.7.evil.example",
        "deploy.example.net.evil.example", "localhost, localhost", "localhost:", "localhost:80:80", "localhost:123456",
        "user@localhost", "localhost/x", "local host", "[::1", "::1", "[localhost]", "", " ", ".", "\u2024", "a" * 5000, "[::2]",
        "localhost..", "3221225991", "0xc0000207",
    ],
)  # fmt: skip
def test_not_ours(host: str) -> None:
    with pytest.raises(Misdirected):
        require(host or " ")


def test_http_1_1_needs_a_host() -> None:
    require(None, version="1.0")
    with pytest.raises(MalformedRequest, match="Host"):
        require(None)


def test_the_absolute_form_counts_too() -> None:
    require("localhost", netloc="localhost")
    with pytest.raises(Misdirected):
        require("localhost", netloc="evil.example")


@pytest.mark.parametrize("origin", ["http://localhost:4499", "https://localhost:4499", "HTTP://LOCALHOST:4499"])
def test_our_own_page_may_call(origin: str) -> None:
    require("localhost:4499", origin)


@pytest.mark.parametrize(
    "origin",
    [
        "null", "", "http://evil.example", "http://localhost", "http://localhost:80", "http://localhost:4499/",
        "http://localhost:4499.evil.example", "file://localhost:4499", "http://localhost:4499, http://evil.example",
    ],
)  # fmt: skip
def test_no_other_page_may(origin: str) -> None:
    with pytest.raises(Forbidden, match="Origin"):
        require("localhost:4499", origin)


def test_an_origin_without_a_host_is_foreign() -> None:
    with pytest.raises(Forbidden):
        require(None, "http://", version="1.0")
