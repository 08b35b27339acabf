"""`stop` where there is no process to end; tests/e2e stops real agents."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator

import pytest

from agent import __main__ as entry
from agent.cli.stop import stop
from agent.errors import AgentError
from agent.host import files, locks
from agent.model import AGENT_PROJECT
from agent.shim.record import Record, write_record
from agent.store.layout import ProjectLayout, StoreLayout


@pytest.fixture
def held(tmp_path: Path) -> Iterator[ProjectLayout]:
    """The agent's project with its lock held, by this very process."""
    layout = StoreLayout(str(tmp_path)).project(AGENT_PROJECT)
    files.make_directory(layout.root)
    lock = locks.acquire(layout.shim_lock)
    assert lock is not None
    yield layout
    os.close(lock)


def test_nothing_to_stop_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["stop", "--store", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"No agent runs with the store {tmp_path}.\n"
    assert entry.main(["stop", "--json", "--store", str(tmp_path)]) == 0
    assert '"NotRunning"' in capsys.readouterr().out


def test_a_held_lock_without_a_record_is_named(held: ProjectLayout) -> None:
    with pytest.raises(AgentError, match="names no live shim") as caught:
        stop(held, 0)
    assert held.record in caught.value.detail and held.shim_lock in str(caught.value.hint)


def test_a_pid_with_another_start_time_is_never_signaled(held: ProjectLayout) -> None:
    """This process's own pid: a SIGTERM would end the test run."""
    write_record(held, Record(AGENT_PROJECT, shim={"pid": os.getpid(), "start_time": 1}))
    with pytest.raises(AgentError, match="names no live shim"):
        stop(held, 0)
