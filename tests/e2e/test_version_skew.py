"""Agents and shims of two releases work together, whichever is the newer one; what an upgrade leaves running runs on."""

from __future__ import annotations

import os
import sys
from typing import Dict, Iterator

import pytest

from tests.support import bundles
from tests.support.agent import AGENT, AgentHost
from tests.support.wait import eventually

pytestmark = pytest.mark.e2e

TURNS = ("before", "up", "down")
#: What a later release may write into every record, want and release; an earlier one leaves it out.
LATER = (
    ("agent/shim/record.py", b'{"schema": SCHEMA, **members}', b'{"schema": SCHEMA, "later": {"x": [1]}, **members}'),
    ("agent/shim/record.py", b'            "schema": SCHEMA,\n', b'            "schema": SCHEMA,\n            "later": [1],\n'),
    ("agent/model.py", b'{"schema": SCHEMA, **asdict(self)}', b'{"schema": SCHEMA, "later": 1, **asdict(self)}'),
)


@pytest.fixture
def earlier(pyz: str) -> Iterator[AgentHost]:
    """An agent of the release at hand on the default Python."""
    with AgentHost(pyz, os.path.realpath(sys.executable)) as agent_host:
        yield agent_host


def drive(host: AgentHost, turn: str, pids: Dict[str, int]) -> None:
    """What an agent does with projects whose shims are of whichever release."""
    status = host.status("stays")
    assert (status["pid"], status["state"]) == (pids["stays"], "ready")
    host.wait_for_output("stays", b"wake %d:" % (host.project_output("stays").count(b"\n") + 2))
    assert host.request("POST", "/project/again/restart").status == 200
    killed = host.kill(f"escapes-{turn}").json["killed"]
    assert len(killed) == 2 and pids[f"escapes-{turn}"] in [entry["pid"] for entry in killed]
    assert host.launch_fixture(f"new-{turn}", "hello").status == 201
    dead = host.crash_shim("stays")
    eventually(lambda: (host.status("stays")["shim_pid"] or dead.pid) != dead.pid, 20, "another shim adopts it")
    assert host.status("stays")["pid"] == pids["stays"]


def await_shim_of(host: AgentHost, version: str) -> None:
    """Until the agent's own shim is of that release, too."""
    def is_there() -> bool:
        return host.record(AGENT)["successor"] is None and version in host.shim(AGENT).command

    eventually(is_there, 60, lambda: str(host.record(AGENT)))


def test_up_and_down(earlier: AgentHost, pyz: str) -> None:
    pids = {"stays": earlier.launch_fixture("stays", "cron_like").json["pid"]}
    assert earlier.launch_fixture("again", "hello").status == 201
    for turn in TURNS:
        project = f"escapes-{turn}"
        pids[project] = earlier.launch_fixture(project, "escapes_session", stop={"grace_seconds": 0.2}).json["pid"]
        earlier.wait_for_output(project, b"daemon is")
    drive(earlier, "before", pids)
    version = earlier.status(AGENT)["version"]
    assert earlier.launch(AGENT, bundles.release(pyz, earlier.artifacts, "later", *LATER)).status == 201
    await_shim_of(earlier, "9.9-later")
    drive(earlier, "up", pids)
    assert b'"later"' in earlier.read("projects", "new-up", "want.json")
    assert earlier.request("POST", f"/project/{AGENT}/rollback").json["version"] == version
    await_shim_of(earlier, version)
    drive(earlier, "down", pids)
