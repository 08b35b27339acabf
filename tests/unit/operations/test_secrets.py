"""Secrets, as far as they meet other calls."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, List

import pytest

from agent.host import files, locks
from agent.operations import secrets
from agent.operations.agent import Agent, forget_if_unused
from agent.store.layout import StoreLayout


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    store = StoreLayout(str(tmp_path))
    files.make_directory(store.projects)
    return Agent(store, None, 0.0, None)  # type: ignore[arg-type]


def test_a_secret_that_meets_a_purge_is_set_after_it(agent: Agent) -> None:
    layout = agent.store.project("web")
    replies: List[Any] = []
    secrets.put(agent, "web", "old", b"1")
    caller = threading.Thread(target=lambda: replies.append(secrets.put(agent, "web", "new", b"2")))
    with locks.hold(layout.want_lock):
        caller.start()
        os.rename(layout.root, f"{agent.store.root}/grave")
    caller.join()
    assert replies[0][0] == 201
    assert secrets.names(agent, "web") == {"project": "web", "secrets": ["new"]}


def test_a_secret_is_new_once(agent: Agent) -> None:
    assert [secrets.put(agent, "web", "jwt", b"1")[0] for _ in range(2)] == [201, 200]


def test_nothing_is_left_of_a_project_whose_last_secret_went(agent: Agent) -> None:
    secrets.put(agent, "web", "jwt", b"1")
    secrets.delete(agent, "web", "jwt")
    assert os.listdir(agent.store.projects) == os.listdir(agent.store.staging) == []


def test_a_secret_of_a_project_that_is_being_launched_takes_nothing_along(agent: Agent) -> None:
    secrets.put(agent, "web", "jwt", b"1")
    launch = locks.acquire(agent.store.project("web").launch_lock)
    assert launch is not None
    secrets.delete(agent, "web", "jwt")
    assert os.path.isdir(agent.store.project("web").root)
    os.close(launch)
    forget_if_unused(agent.handle("web"))
    assert not os.path.exists(agent.store.project("web").root)
