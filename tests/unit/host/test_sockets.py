"""Addresses of listening sockets, and what a child is told of those passed to it."""

from __future__ import annotations

import os

import pytest

from agent.host import sockets


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("127.0.0.1:4499", ("127.0.0.1", 4499)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("localhost:65535", ("localhost", 65535)),
        ("[::1]:80", ("::1", 80)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
    ],
)
def test_an_address(text: str, parsed: object) -> None:
    assert sockets.parse_address(text) == parsed


@pytest.mark.parametrize(
    "text",
    ["", ":", ":80", "[]:80", "host", "host:", "host:http", "host:-1", "host:65536", "host: 80", "host:8_0", "host:²",
     "host:" + "9" * 5000, "host:0000099999", "80"],
)  # fmt: skip
def test_what_is_no_address_is_named(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        sockets.parse_address(text)
    assert repr(text) in str(refused.value)


def test_a_child_without_sockets_is_told_nothing() -> None:
    assert sockets.listen_environment(()) == {}


def test_a_child_is_told_of_its_sockets_by_name() -> None:
    assert sockets.listen_environment(("http", "control")) == {
        "LISTEN_FDS": "2", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "http:control",
    }  # fmt: skip


@pytest.mark.parametrize("environ", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}])
def test_what_was_passed_to_somebody_else_is_not_ours(environ: object) -> None:
    assert sockets.inherited(environ) == {}  # type: ignore[arg-type]


def test_no_names_are_no_sockets() -> None:
    assert sockets.inherited({"LISTEN_PID": str(os.getpid())}) == {}
