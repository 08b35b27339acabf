"""`token`: keys are made, listed and revoked in the store's files; the key itself is printed once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import agent.__main__ as entry
from agent.cli.token import expiry
from agent.errors import UsageError
from agent.host import clock
from agent.store import keys
from agent.store.layout import StoreLayout

NOW = clock.from_timestamp("2026-11-25T00:00:00.000Z")


def run(tmp_path: Path, *words: str) -> int:
    return entry.main(["token", *words, "--store", str(tmp_path)])


def test_add_list_revoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "add", "ci", "--role", "deploy", "--project", "web", "--project", "api", "--expires", "90d") == 0
    token = capsys.readouterr().out.strip()
    (key,) = keys.every(StoreLayout(str(tmp_path)))
    assert (key.name, key.role, key.projects) == ("ci", "deploy", ("web", "api"))
    assert run(tmp_path, "list") == 0
    shown = capsys.readouterr().out
    assert "ci\tdeploy\tweb, api\t" in shown
    assert token not in shown and key.sha256 not in shown
    assert run(tmp_path, "revoke", "ci") == 0
    assert keys.every(StoreLayout(str(tmp_path))) == []


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "add", "ci", "--role", "read", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    token = made.pop("token")
    assert run(tmp_path, "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"keys": [made]}
    assert token.startswith("ant_read_")
    assert run(tmp_path, "revoke", "ci", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"status": "Revoked", "name": "ci"}


def test_an_expired_key_is_shown_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "add", "old", "--role", "read", "--expires", "2020-01-01") == 0
    capsys.readouterr()
    assert run(tmp_path, "list") == 0
    assert "2020-01-01T00:00:00.000Z (expired)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["add"], 2, "NAME"),
        (["add", "ci"], 2, "--role"),
        (["add", "ci", "--role", "root"], 2, "role"),
        (["add", "ci", "--role", "read", "--expires", "soon"], 2, "--expires soon"),
        (["add", "ci", "--role", "read", "--project", "A"], 2, "'A'"),
        (["add", "admin", "--role", "read"], 2, "admin"),
        (["list", "ci"], 2, "NAME"),
        (["revoke", "ci"], 4, "no key 'ci'"),
        (["forget", "ci"], 2, "forget"),
    ],
)
def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, says: str) -> None:
    assert run(tmp_path, *words) == code
    assert says in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_without_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["token", "list", "--store", str(tmp_path / "none")]) == 2
    assert "There is no store" in capsys.readouterr().err


def test_another_user_s_store(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert run(tmp_path, "add", "ci", "--role", "read") == 2
    assert "belongs to uid" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("90d", "2027-02-23T00:00:00.000Z"), ("12h", "2026-11-25T12:00:00.000Z"), ("0s", "2026-11-25T00:00:00.000Z"),
        ("2027-01-31", "2027-01-31T00:00:00.000Z"), ("2027-01-31T12:30:00Z", "2027-01-31T12:30:00.000Z"),
    ],
)  # fmt: skip
def test_expiry(text: str, at: str) -> None:
    assert expiry(text, NOW) == at


@pytest.mark.parametrize("text", ["", "90", "d", "-1d", "2027-13-01", "2027-02-30", "2027-01-31T12:30:00+02:00", "1.5h", "90d\n"])
def test_no_expiry(text: str) -> None:
    with pytest.raises(UsageError, match="--expires"):
        expiry(text, NOW)
