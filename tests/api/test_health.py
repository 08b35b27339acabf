"""Health looks at the store, its disk and the shims, and says which of them is not well."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Iterator

import pytest

from agent.host import files
from agent.host.files import Space
from agent.operations.agent import Agent
from agent.operations.health import health
from agent.shim.handle import Control
from agent.shim.record import Want, write_want
from agent.store.layout import StoreLayout
from agent.store.unpacker import Unpacker


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """An agent that has nobody to talk to, on a store of its own."""
    store = StoreLayout(str(tmp_path))
    os.mkdir(store.projects)
    os.mkdir(store.staging)
    Path(store.token).write_text("key")
    with socket.socket() as silent:
        yield Agent(store, Control(silent), 0.0, Unpacker(silent, 0))


def test_all_is_well(agent: Agent) -> None:
    status, found = health(agent)
    assert (status, found["healthy"], found["problems"]) == (200, True, [])
    assert found["checks"] == {"store": True, "disk": True, "shims": True, "keys": True}
    assert os.listdir(agent.store.staging) == []


@pytest.mark.parametrize(
    ("space", "word"),
    [
        (Space(free_bytes=1 << 20, total_bytes=1 << 40, free_inodes=1 << 20, total_inodes=1 << 22), "bytes free"),
        (Space(free_bytes=1 << 39, total_bytes=1 << 40, free_inodes=3, total_inodes=1 << 22), "inodes"),
    ],
)
def test_a_disk_that_nothing_is_launched_on(agent: Agent, monkeypatch: pytest.MonkeyPatch, space: Space, word: str) -> None:
    monkeypatch.setattr(files, "free_space", lambda path: space)
    status, found = health(agent)
    assert (status, found["checks"]) == (503, {"store": True, "disk": False, "shims": True, "keys": True})
    assert word in found["problems"][0]


def test_a_store_that_cannot_be_written(agent: Agent) -> None:
    os.rmdir(agent.store.staging)
    Path(agent.store.staging).write_bytes(b"a file where the folder should be")
    status, found = health(agent)
    assert (status, found["checks"]["store"], found["checks"]["disk"]) == (503, False, True)
    assert agent.store.staging in found["problems"][0]


def test_an_admin_s_key_that_can_not_be_read(agent: Agent) -> None:
    os.rename(agent.store.token, agent.store.token + ".away")
    status, found = health(agent)
    assert (status, found["checks"]["keys"]) == (503, False)
    assert agent.store.token in found["problems"][0] and "Write one key" in found["problems"][0]
    files.write_json(agent.store.config, {"token_file": agent.store.token + ".away"})
    assert health(agent)[0] == 200


def test_a_project_without_its_shim(agent: Agent) -> None:
    layout = agent.store.project("web")
    os.makedirs(layout.root)
    write_want(layout, Want(up=True, version="1", generation=1))
    status, found = health(agent)
    assert (status, found["checks"]["shims"], found["problems"]) == (503, False, ["no shim yet for: web"])
