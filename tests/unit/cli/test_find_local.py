"""Which agent a command talks to, and with which key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.client import Client, find_local
from agent.errors import UsageError


def write_store(store: Path, config: object = None, token: str = "local") -> Path:
    store.mkdir(exist_ok=True)
    (store / "token").write_text(token + "\n")
    if config is not None:
        (store / "config.json").write_text(json.dumps(config))
    return store


def test_the_hosts_own_agent_is_found(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", {"schema": 1, "listen": "0.0.0.0:5000", "allow_plaintext": True})
    assert find_local({"ANT_HOST_AGENT_STORE": str(store)}) == ("http://127.0.0.1:5000", "local")
    assert find_local({}, store=str(store)) == ("http://127.0.0.1:5000", "local")
    assert find_local({}, store=str(store), token="t") == ("http://127.0.0.1:5000", "t")
    assert find_local({"ANT_HOST_AGENT_TOKEN": "e"}, store=str(store)) == ("http://127.0.0.1:5000", "e")


def test_a_token_file_elsewhere_is_found_by_the_config(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("elsewhere")
    store = write_store(tmp_path / "store", {"listen": "127.0.0.1:1", "token_file": str(tmp_path / "key")})
    assert find_local({}, store=str(store)) == ("http://127.0.0.1:1", "elsewhere")


def test_the_hosts_key_goes_to_no_other_url(tmp_path: Path) -> None:
    store = str(write_store(tmp_path / "store", {"listen": "127.0.0.1:5000"}))
    assert find_local({}, store=store, url="http://other:5000") == ("http://other:5000", None)
    assert find_local({}, store=store, url="http://127.0.0.1:5000/") == ("http://127.0.0.1:5000", "local")


def test_flags_win_over_variables(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("file")
    environ = {"ANT_HOST_AGENT_URL": "http://e:1", "ANT_HOST_AGENT_TOKEN": "e"}
    assert find_local(environ) == ("http://e:1", "e")
    assert find_local(environ, url="http://f:1", token_file=str(tmp_path / "key")) == ("http://f:1", "file")


def test_without_a_store_the_default_address_is_tried(tmp_path: Path) -> None:
    assert find_local({}, store=str(tmp_path / "none")) == ("http://127.0.0.1:4499", None)


@pytest.mark.parametrize("broken", ["absent", "directory"])
def test_a_key_file_that_can_not_be_read_is_named(tmp_path: Path, broken: str) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(UsageError, match=broken):
        find_local({}, token_file=str(tmp_path / broken))


@pytest.mark.parametrize("token", ["two words", "line\nend", "clé"])
def test_what_cannot_be_a_key_is_refused_before_it_is_sent(token: str) -> None:
    with pytest.raises(UsageError, match="key"):
        Client("http://127.0.0.1:1", token)
