"""Learning how a child ended that an earlier shim had started."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.model import Exited, UnknownExit
from agent.shim.child import end_of_adopted, leave_orphan_status
from agent.shim.journal import Journal
from agent.shim.record import Record, read_record, write_record
from agent.store.layout import ProjectLayout

#: No process has this start time.
GONE = Record("web", "ready", pid=1, start_time=1 << 60, adopted=True)


@pytest.fixture
def layout(tmp_path: Path) -> ProjectLayout:
    made = ProjectLayout(str(tmp_path / "web"), "web")
    Path(made.root).mkdir()
    write_record(made, GONE)
    return made


def test_what_an_ancestor_has_learned_counts(layout: ProjectLayout) -> None:
    leave_orphan_status(layout, 1, 1 << 60, 42 << 8)
    assert end_of_adopted(Journal(layout), layout, -1, 0.5) == Exited(42)


def test_nobody_waits_for_ever_for_a_status_that_nobody_has(layout: ProjectLayout) -> None:
    """Each turn of a shim reads the record anew: that it has begun to wait must be on record."""
    assert end_of_adopted(Journal(layout), layout, -1, 0.5) is None
    record = read_record(layout)
    assert record is not None and record.gone_clock is not None
    assert end_of_adopted(Journal(layout), layout, -1, 0.5) is None
    write_record(layout, replace(record, gone_clock=record.gone_clock - 10))
    assert isinstance(end_of_adopted(Journal(layout), layout, -1, 0.5), UnknownExit)
