"""Status, of a store as a power cut leaves it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from agent.host import files
from agent.operations import status
from agent.operations.agent import Agent
from agent.operations.health import health
from agent.shim.record import Record, Want, read_errand, write_record, write_want
from agent.store.layout import StoreLayout
from agent.store.segments import crash_path


@pytest.mark.parametrize("torn", [b"", b'{"schema": 1, "ki', b"\xff\0\0"])
def test_what_was_never_synced_may_be_torn(tmp_path: Path, torn: bytes) -> None:
    nobody: Any = None
    agent = Agent(StoreLayout(str(tmp_path)), nobody, 0.0, nobody)
    layout = agent.store.project("web")
    files.make_directory(layout.crashes)
    write_want(layout, Want(True, 1, "1"))
    write_record(layout, Record("web", state="running", run=2))
    for path in (layout.errand, crash_path(layout, 1)):
        Path(path).write_bytes(torn)
    assert read_errand(layout, "probe", 2) == {}
    assert status.describe(agent, "web")["crashes"] == []
    assert status.describe_all(agent)["projects"][0]["project"] == "web"
    Path(layout.record).write_bytes(torn)
    assert status.describe(agent, "web")["want"] == "up"


def test_a_project_that_has_put_something_else_in_the_place_of_its_logs(tmp_path: Path) -> None:
    nobody: Any = None
    agent = Agent(StoreLayout(str(tmp_path)), nobody, 0.0, nobody)
    layout = agent.store.project("web")
    files.make_directory(layout.root)
    write_want(layout, Want(True, 1, "1"))
    for instead in ("/etc", "/etc/passwd"):
        os.symlink(instead, layout.logs)
        assert status.describe(agent, "web")["project"] == "web"
        assert [one["project"] for one in status.describe_all(agent)["projects"]] == ["web"]
        os.unlink(layout.logs)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("want", b"x"), ("want", b'{"want": "up", "generation": 1.5}'), ("record", b'{"project": "bad", "exits": ["x"]}'),
        ("record", b'{"project": "bad", "pid": 1, "started_at": 7}'),
    ],
)  # fmt: skip
def test_a_project_whose_files_are_spoiled_hides_no_other(tmp_path: Path, name: str, content: bytes) -> None:
    nobody: Any = None
    agent = Agent(StoreLayout(str(tmp_path)), nobody, 0.0, nobody)
    for project in ("bad", "good"):
        files.make_directory(agent.store.project(project).logs)
        write_want(agent.store.project(project), Want(True, 1, "1"))
        write_record(agent.store.project(project), Record(project, state="exited"))
    Path(getattr(agent.store.project("bad"), name)).write_bytes(content)
    told = status.describe_all(agent)["projects"]
    assert [one["project"] for one in told] == ["bad", "good"]
    assert "can't be understood" in told[0]["explanation"] and "can't" not in told[1]["explanation"]
    assert status.describe(agent, "bad")["explanation"] == told[0]["explanation"]
    assert ("what is wanted" in str(health(agent)[1]["problems"])) == (name == "want")
