"""The files of keys: what opens, what does not, and that a bad file opens nothing."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any, Dict

import pytest

from agent.errors import Conflict, MalformedRequest, NotFound, UsageError
from agent.host import files
from agent.store import keys
from agent.store.keys import Key, KeyRing
from agent.store.layout import StoreLayout

DIGEST = "ab" * 32
ENTRY: Dict[str, Any] = {"name": "ci", "role": "deploy", "sha256": DIGEST}


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> StoreLayout:
    (tmp_path / "token").write_text("the-admin's\n")
    return StoreLayout(str(tmp_path))


def ring(store: StoreLayout) -> KeyRing:
    return KeyRing(store.token, store.keys)


def file_of(*entries: object, **members: object) -> bytes:
    return json.dumps({"schema": 1, "keys": entries, **members}).encode()


def test_a_new_key_is_shown_once_and_kept_as_a_digest(store: StoreLayout) -> None:
    key, token = keys.add(store, "ci", "deploy", ["web", "api"], "2030-01-01T00:00:00.000Z")
    assert token.startswith("ant_deploy_") and len(token) == len("ant_deploy_") + 64
    assert key.sha256 == digest(token)
    assert token not in Path(store.keys).read_text()
    assert stat.S_IMODE(os.stat(store.keys).st_mode) == 0o600
    assert keys.every(store) == [key]
    assert (key.projects, key.expires_at) == (("web", "api"), "2030-01-01T00:00:00.000Z")


def test_many_keys_live_side_by_side_and_each_goes_alone(store: StoreLayout) -> None:
    made = {name: keys.add(store, name, "read")[1] for name in ("c", "a", "b")}
    assert len(set(made.values())) == 3
    assert [key.name for key in keys.every(store)] == ["a", "b", "c"]
    keys.revoke(store, "b")
    assert [key.name for key in keys.every(store)] == ["a", "c"]


def test_a_name_is_taken_once(store: StoreLayout) -> None:
    keys.add(store, "ci", "read")
    with pytest.raises(Conflict, match="ci"):
        keys.add(store, "ci", "admin")
    assert [key.role for key in keys.every(store)] == ["read"]


def test_an_unknown_name_is_not_revoked(store: StoreLayout) -> None:
    with pytest.raises(NotFound, match="nobody"):
        keys.revoke(store, "nobody")


@pytest.mark.parametrize("name", ["", "admin", "A", "../x", "a/b", "a\n", "a" * 64, "-a", "\uff0e"])
def test_a_bad_name_is_refused(store: StoreLayout, name: str) -> None:
    with pytest.raises(UsageError, match="no name"):
        keys.add(store, name, "read")


def test_a_bad_project_is_refused(store: StoreLayout) -> None:
    with pytest.raises(MalformedRequest, match="project"):
        keys.add(store, "ci", "read", ["web*"])
    assert not os.path.exists(store.keys)


def test_the_ring_sees_every_change_at_once(store: StoreLayout) -> None:
    found = ring(store)
    assert [key.name for key in found.read()] == ["admin"]
    assert found.read()[0] == Key("admin", "admin", digest("the-admin's"))
    keys.add(store, "ci", "read")
    assert [key.name for key in found.read()] == ["admin", "ci"]
    keys.revoke(store, "ci")
    Path(store.token).write_text("another")
    assert [key.sha256 for key in found.read()] == [digest("another")]


def test_a_change_in_place_of_the_same_size_and_time_counts(store: StoreLayout) -> None:
    Path(store.keys).write_bytes(file_of(ENTRY))
    times = os.stat(store.keys)
    found = ring(store)
    assert found.read()[1].role == "deploy"
    Path(store.keys).write_bytes(file_of({**ENTRY, "role": "admin"}).replace(b'"admin"', b'"admin" '))
    os.utime(store.keys, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert os.stat(store.keys).st_size == times.st_size
    assert found.read()[1].role == "admin"


def test_an_absent_or_empty_token_opens_nothing(store: StoreLayout) -> None:
    Path(store.token).write_text(" \n")
    assert ring(store).read() == ()
    os.unlink(store.token)
    assert ring(store).read() == ()


BAD = {
    "no json": b"{",
    "zeroed": bytes(200),
    "empty": b"",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "a newer schema": file_of(ENTRY, schema=2),
    "no keys": b'{"schema": 1}',
    "a key that is none": file_of("ci"),
    "a missing member": file_of({"name": "ci", "role": "read"}),
    "a restriction of a newer version": file_of({**ENTRY, "networks": ["10.0.0.0/8"]}),
    "a bad name": file_of({**ENTRY, "name": "../ci"}),
    "the admin's name": file_of({**ENTRY, "name": "admin"}),
    "an unknown role": file_of({**ENTRY, "role": "root"}),
    "a list as role": file_of({**ENTRY, "role": ["admin"]}),
    "a short digest": file_of({**ENTRY, "sha256": "ab"}),
    "a digest that is none": file_of({**ENTRY, "sha256": "g" * 64}),
    "a digest with a newline": file_of({**ENTRY, "sha256": DIGEST + "\n"}),
    "projects as text": file_of({**ENTRY, "projects": "web"}),
    "a wildcard": file_of({**ENTRY, "projects": ["*"]}),
    "an expiry that is no timestamp": file_of({**ENTRY, "expires_at": "tomorrow"}),
    "an expiry as a number": file_of({**ENTRY, "expires_at": 1}),
    "the same name twice": file_of(ENTRY, {**ENTRY, "sha256": "cd" * 32}),
    "the same key twice": file_of(ENTRY, {**ENTRY, "name": "two"}),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_opens_nothing_and_says_why_once(store: StoreLayout, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = ring(store)
    keys.add(store, "good", "admin")
    assert len(found.read()) == 2
    Path(store.keys).write_bytes(BAD[name])
    for _ in range(3):
        assert [key.name for key in found.read()] == ["admin"]
    assert capsys.readouterr().err.count("tokens.json is not used") == 1
    with pytest.raises(UsageError, match=r"tokens\.json"):
        keys.every(store)
    with pytest.raises(UsageError, match=r"tokens\.json"):
        keys.add(store, "more", "read")
    assert Path(store.keys).read_bytes() == BAD[name]


def test_a_mended_file_counts_again(store: StoreLayout, capsys: pytest.CaptureFixture[str]) -> None:
    found = ring(store)
    for content, count in ((file_of(ENTRY), 2), (b"{", 1), (file_of(ENTRY), 2), (b"{", 1)):
        Path(store.keys).write_bytes(content)
        assert len(found.read()) == count


def test_no_projects_at_all_is_no_project_and_not_all() -> None:
    assert keys.parse(file_of({**ENTRY, "projects": []}))[0].projects == ()
    assert keys.parse(file_of(ENTRY))[0].projects is None


def test_expiry() -> None:
    key = Key("ci", "read", DIGEST, expires_at="2026-06-01T00:00:00.000Z")
    assert not key.is_expired("2026-05-31T23:59:59.999Z")
    assert key.is_expired("2026-06-01T00:00:00.000Z")
    assert not Key("ci", "read", DIGEST).is_expired("9999-01-01T00:00:00.000Z")


def test_a_full_disk_leaves_the_keys_as_they_were(store: StoreLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.add(store, "ci", "read")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_all", full)
        with pytest.raises(OSError, match="space"):
            keys.add(store, "more", "read")
    assert [key.name for key in keys.every(store)] == ["ci"]
    assert sorted(os.listdir(store.root)) == ["token", "tokens.json"]


def test_an_admin_key_is_made_once(tmp_path: Path) -> None:
    path = str(tmp_path / "new")
    keys.ensure_token(path)
    made = Path(path).read_bytes()
    assert len(bytes.fromhex(made.decode())) == 32 and stat.S_IMODE(os.stat(path).st_mode) == 0o600
    keys.ensure_token(path)
    assert Path(path).read_bytes() == made


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o440, 0o660, 0o640])
def test_a_key_s_file_that_is_closed_to_others_is_taken_as_it_is(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "given"
    path.write_bytes(b"key\n")
    path.chmod(mode)
    keys.ensure_token(str(path))
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"key\n", mode)


@pytest.mark.parametrize(("mode", "closed"), [(0o644, 0o640), (0o444, 0o440), (0o604, 0o600)])
def test_a_key_s_file_that_everybody_may_read_is_closed(
    tmp_path: Path, mode: int, closed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "given"
    path.write_bytes(b"key")
    path.chmod(mode)
    keys.ensure_token(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == closed
    assert str(path) in capsys.readouterr().err
    keys.ensure_token(str(path))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (b"", 0o600, "is empty"), (b" \n\n", 0o600, "is empty"), (b"one\ntwo", 0o600, "one word"), (b"k\x00y", 0o600, "one word"),
        ("schl\u00fcssel".encode(), 0o600, "one word"), (b"key", 0o606, "written by everybody"), (b"key", 0o602, "written by"),
    ],
)  # fmt: skip
def test_a_key_s_file_that_is_refused(tmp_path: Path, content: bytes, mode: int, why: str) -> None:
    path = tmp_path / "given"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(UsageError, match=why) as caught:
        keys.ensure_token(str(path))
    assert str(path) in caught.value.detail and "key" not in caught.value.detail.split(str(path))[0]
    assert path.read_bytes() == content


def test_a_key_is_read_from_a_plain_file_only(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for other in (tmp_path / "fifo", tmp_path):
        with pytest.raises(UsageError, match="no regular file"):
            keys.ensure_token(str(other))
