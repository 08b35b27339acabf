"""All logs together stay within the budget; who has most gives first; what is being written is never taken."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, List

import pytest

from agent.host import files
from agent.host.files import Space
from agent.operations import log_budget
from agent.operations.agent import Agent
from agent.operations.log_budget import default_bytes, keep_budget
from agent.shim.record import Want, write_want
from agent.store.layout import StoreLayout
from agent.store.segments import segment_name, segment_numbers

KIB = 1024


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    nobody: Any = None
    return Agent(StoreLayout(str(tmp_path)), nobody, 0.0, nobody)


def add(agent: Agent, project: str, *kibibytes: int) -> None:
    layout = agent.store.project(project)
    files.make_directory(layout.logs)
    write_want(layout, Want(True, 1, "1"))
    for number, count in enumerate(kibibytes, 1):
        Path(layout.logs, segment_name(number)).write_bytes(os.urandom(count * KIB))


def allow(agent: Agent, kibibytes: int) -> None:
    files.write_json(agent.store.config, {"log_budget": str(kibibytes * KIB)})


def kept(agent: Agent, project: str) -> List[int]:
    return segment_numbers(agent.store.project(project).logs)


def test_nothing_goes_while_there_is_room(agent: Agent) -> None:
    add(agent, "web", 40, 40)
    allow(agent, 80)
    assert keep_budget(agent) == 0 and kept(agent, "web") == [1, 2]


def test_a_flood_costs_its_own_past_and_not_the_others(agent: Agent) -> None:
    add(agent, "calm", 40, 40)
    add(agent, "flood", 40, 40, 40, 40, 40)
    allow(agent, 200)
    assert keep_budget(agent) == 80 * KIB
    assert kept(agent, "calm") == [1, 2] and kept(agent, "flood") == [3, 4, 5]
    told = [json.loads(line) for line in Path(agent.store.project("flood").events).read_bytes().splitlines()]
    assert [(line["event"], line["from"], line["to"], line["bytes"]) for line in told] == [("removed", 1, 2, 80 * KIB)]
    assert not os.path.exists(agent.store.project("calm").events)


def test_the_segment_that_is_written_stays(agent: Agent) -> None:
    add(agent, "one", 100)
    add(agent, "two", 40, 100)
    allow(agent, 1)
    keep_budget(agent)
    assert kept(agent, "one") == [1] and kept(agent, "two") == [2]
    assert keep_budget(agent) == 0


def test_a_disk_that_is_nearly_full_counts_as_a_smaller_budget(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    add(agent, "web", 40, 40, 40)
    allow(agent, 1000)
    monkeypatch.setattr(log_budget.files, "free_space", lambda path: Space(10 * KIB, 2500 * KIB, 1000))  # 2 % are 50 KiB
    assert keep_budget(agent) == 40 * KIB and kept(agent, "web") == [2, 3]


def test_a_link_in_place_of_the_logs_is_not_followed(agent: Agent, tmp_path: Path) -> None:
    add(agent, "web", 40)
    elsewhere = tmp_path / "elsewhere"
    os.rename(agent.store.project("web").logs, elsewhere)
    Path(elsewhere, segment_name(2)).write_bytes(b"x")
    os.symlink(elsewhere, agent.store.project("web").logs)
    allow(agent, 1)
    assert keep_budget(agent) == 0 and len(os.listdir(elsewhere)) == 2


def test_unless_it_is_configured() -> None:
    assert default_bytes(Space(0, 50 << 30, 0)) == 5 << 30
    assert default_bytes(Space(0, 4000 << 30, 0)) == 10 << 30
