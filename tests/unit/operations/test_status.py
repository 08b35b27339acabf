"""Status, of a store as a power cut leaves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.host import files
from agent.operations import status
from agent.operations.agent import Agent
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
