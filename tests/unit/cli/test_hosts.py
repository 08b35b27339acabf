"""How hosts are named."""

from __future__ import annotations

import pytest

from agent.cli.hosts import Host, parse


@pytest.mark.parametrize(
    ("text", "url", "token_file"),
    [
        ("web1", "http://web1:4499", None),
        ("192.0.2.7:5000", "http://192.0.2.7:5000", None),
        ("::1", "http://[::1]:4499", None),
        ("[::1]", "http://[::1]:4499", None),
        ("[::1]:80", "http://[::1]:80", None),
        ("https://web1/agent", "https://web1/agent", None),
        ("web1   /keys/web 1", "http://web1:4499", "/keys/web 1"),
    ],
)
def test_parse(text: str, url: str, token_file: object) -> None:
    assert parse(text) == Host(text.partition(" ")[0], url, token_file)
