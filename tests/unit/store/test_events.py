"""Events as they are followed: every one once, also by who calls again, over the file's rotation."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

from agent.host import files
from agent.store import events
from agent.store.events import Events
from agent.store.layout import StoreLayout

LIMIT_BYTES = 2000


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoreLayout:
    for name in ("_LOOK_SECONDS", "_LINGER_SECONDS"):
        monkeypatch.setattr(events, name, 0.0)
    return StoreLayout(str(tmp_path))


def tell(store: StoreLayout, number: int, project: str = "web") -> None:
    event = {"at": "2026-01-31T12:04:31.250Z", "project": project, "event": "ready", "n": number}
    files.append_line(store.events, event, LIMIT_BYTES)


def follow(store: StoreLayout, last: str = "", project: str = "") -> Events:
    stream = Events(store, last, lambda event: not project or event["project"] == project)
    assert (stream.step() or b"").startswith(b"retry: ")
    return stream


def read(stream: Events) -> List[Tuple[str, int]]:
    """The ids and numbers of what there is to be had."""
    found: List[Tuple[str, int]] = []
    idle = 0
    while idle < 3:  # one look at the old file, one to leave it, one at the new
        data = stream.step() or b""
        idle = 0 if data else idle + 1
        for block in data.decode().split("\n\n"):
            fields: Dict[str, str] = dict(line.split(": ", 1) for line in block.splitlines())
            if fields:
                document: Dict[str, Any] = json.loads(fields["data"])
                assert fields["event"] == document["event"] == "ready"
                found.append((fields["id"], document["n"]))
    return found


def numbers(stream: Events) -> List[int]:
    return [number for _, number in read(stream)]


def test_who_comes_hears_of_what_comes(store: StoreLayout) -> None:
    tell(store, 1)
    stream = follow(store)
    assert numbers(stream) == []
    for number in (2, 3):
        tell(store, number)
    assert numbers(stream) == [2, 3] and numbers(stream) == []
    stream.close()


def test_before_anything_ever_happened(store: StoreLayout) -> None:
    stream = follow(store)
    assert numbers(stream) == []
    tell(store, 1)
    assert numbers(stream) == [1]
    stream.close()


def test_who_calls_again_misses_nothing_over_rotations(store: StoreLayout) -> None:
    stream, seen = follow(store), []
    for number in range(1, 61):
        tell(store, number)
        if number % 3 == 0:
            found = read(stream)
            seen += [number for _, number in found]
            stream.close()
            stream = follow(store, found[-1][0])
    assert os.path.exists(f"{store.root}/events.1.jsonl")
    assert seen == list(range(1, 61))
    stream.close()


def test_a_follower_goes_over_a_rotation(store: StoreLayout) -> None:
    stream = follow(store)
    seen = []
    for number in range(60):
        tell(store, number)
        seen += numbers(stream)
    assert seen == list(range(60))
    stream.close()


@pytest.mark.parametrize("last", ["1.0", "1.5", "ffffffffffffffff.ffffffffffffffff"])
def test_an_id_of_what_is_gone_gives_all_that_is_there(store: StoreLayout, last: str) -> None:
    for number in range(30):
        tell(store, number)
    seen = numbers(follow(store, last))
    assert seen == list(range(seen[0], 30)) and len(seen) >= 15


@pytest.mark.parametrize("last", ["", "x", "1", "1.2.3", "-1.0", "1.0\n"])
def test_an_id_that_is_none_gives_what_comes(store: StoreLayout, last: str) -> None:
    tell(store, 1)
    assert numbers(follow(store, last)) == []


def test_an_id_amid_a_line_is_not_believed(store: StoreLayout) -> None:
    tell(store, 1)
    tell(store, 2)
    inode = os.stat(store.events).st_ino
    assert numbers(follow(store, f"{inode:x}.5")) == [1, 2]


def test_only_what_is_wanted_and_no_torn_line(store: StoreLayout) -> None:
    stream = follow(store, project="web")
    tell(store, 1, "other")
    with open(store.events, "ab") as file:
        file.write(b'{"torn\n' + b"x" * 200_000 + b"\n")
    for number in (2, 3):
        tell(store, number)
    assert numbers(stream)[-1:] == [3]
    stream.close()


def test_silence_is_broken(store: StoreLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = follow(store)
    assert stream.step() == b""
    monkeypatch.setattr(events, "_SILENCE_SECONDS", 0.0)
    assert stream.step() == b": still here\n\n"
    stream.close()
