"""What pruning leaves, however few releases are to be kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.errors import Conflict
from agent.host import files
from agent.model import AGENT_PROJECT
from agent.operations import own
from agent.operations.agent import Agent
from agent.operations.launch import spared
from agent.operations.rollback import rollback
from agent.shim.record import Record, Successor, Want, write_record, write_want
from agent.store import releases
from agent.store.layout import ProjectLayout, StoreLayout


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    nobody: Any = None
    return Agent(StoreLayout(str(tmp_path)), nobody, 0.0, nobody)


def add(layout: ProjectLayout, *versions: str) -> None:
    for version in versions:
        files.make_directory(layout.release(version))
        document = {"project": layout.project, "version": version, "digest": version * 64, "size_bytes": 1, "manifest": {}}
        files.write_json(layout.release_json(version), {"schema": 1, "command": ["x"], **document, "received_at": version})


def prune(agent: Agent, project: str, keep: int) -> None:
    handle = agent.handle(project)
    releases.prune(handle.layout, keep, spared(agent, handle))


def kept(layout: ProjectLayout) -> str:
    return "".join(release.version for release in releases.every(layout))


def test_what_is_live_wanted_current_or_gone_back_to_stays(agent: Agent) -> None:
    layout = agent.store.project("web")
    add(layout, *"123456789")
    files.swap_symlink(layout.current, "releases/2")
    write_want(layout, Want(True, 1, "5", fallback="4"))
    write_record(layout, Record("web", version="1", pid=1, successor=Successor(2, 2, "7", 1, 1, 0.0)))
    prune(agent, "web", 1)
    assert kept(layout) == "124579"
    prune(agent, "web", 1)
    assert kept(layout) == "124579"


def test_what_is_in_quarantine_stays_for_whoever_asks_why(agent: Agent) -> None:
    layout = agent.store.project(AGENT_PROJECT)
    add(layout, *"12345")
    files.swap_symlink(layout.current, "releases/5")
    write_want(layout, Want(True, 1, "5", fallback="4"))
    own.quarantine(agent.store, "2" * 64, "2", "it hung")
    prune(agent, AGENT_PROJECT, 1)
    assert kept(layout) == "245"
    own.acquit(agent.store, "2" * 64)
    prune(agent, AGENT_PROJECT, 1)
    assert kept(layout) == "45"


def test_a_rollback_does_not_choose_what_is_in_quarantine(agent: Agent) -> None:
    layout = agent.store.project(AGENT_PROJECT)
    add(layout, *"12")
    files.swap_symlink(layout.current, "releases/2")
    write_want(layout, Want(True, 1, "2"))
    own.quarantine(agent.store, "1" * 64, "1", "it hung")
    with pytest.raises(Conflict, match="no release older than 2"):
        rollback(agent, AGENT_PROJECT, None, "me")
