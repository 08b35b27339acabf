"""Random calls with random deaths of our processes, against a model of a few lines.

ANT_STATEFUL_EXAMPLES and ANT_STATEFUL_STEPS make it larger than CI can afford.
"""

from __future__ import annotations

import os
from typing import Dict, List, Optional, Tuple

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.support import artifact, processes
from tests.support.agent import AGENT, AgentHost
from tests.support.wait import eventually

pytestmark = pytest.mark.e2e

EXAMPLES = int(os.environ.get("ANT_STATEFUL_EXAMPLES", "3"))
STEPS = int(os.environ.get("ANT_STATEFUL_STEPS", "12"))

PROJECTS = ("one", "two", "three")
VERSIONS = ("1", "2")
projects = st.sampled_from(PROJECTS)


class Life(RuleBasedStateMachine):
    """What should be so: which version each known project runs (None: killed), its pid, and all it ever printed."""

    host: AgentHost
    artifacts: Dict[str, str]

    def __init__(self) -> None:
        super().__init__()
        self.running: Dict[str, Optional[Tuple[str, int]]] = {}
        self.printed: Dict[str, List[str]] = {}

    @rule(project=projects, version=st.sampled_from(VERSIONS))
    def launch(self, project: str, version: str) -> None:
        reply = self.host.launch(project, self.artifacts[version], version=version)
        now = self.running.get(project)
        if now is not None and now[0] == version:
            assert (reply.status, reply.json["pid"]) == (200, now[1]), reply
            return
        assert reply.status == 201, reply
        self.running[project] = (version, reply.json["pid"])
        self.printed.setdefault(project, []).append(f"hello from {project} {version}\n")

    @rule(project=projects)
    def launch_what_fails(self, project: str) -> None:
        reply = self.host.launch(project, self.artifacts["bad"], version="bad")
        assert reply.status == 422, reply

    @rule(project=projects)
    def kill(self, project: str) -> None:
        reply = self.host.kill(project)
        if project not in self.running:
            assert reply.status == 404, reply
            return
        now, self.running[project] = self.running[project], None
        assert reply.status == 200, reply
        assert [entry["pid"] for entry in reply.json["killed"]] == ([now[1]] if now else [])

    @rule(project=projects)
    def purge(self, project: str) -> None:
        reply = self.host.kill(project, purge="true")
        assert reply.status == (200 if project in self.running else 404), reply
        self.running.pop(project, None)
        self.printed.pop(project, None)

    @rule(project=projects)
    def logs(self, project: str) -> None:
        if project not in self.running:
            assert self.host.request("GET", f"/project/{project}/logs").status == 404
            return
        wanted = "".join(self.printed[project]).encode()
        eventually(lambda: self.host.project_output(project) == wanted, 20, lambda: self.described(project))

    @rule()
    def crash_the_agent(self) -> None:
        self.host.crash_agent()

    @rule()
    def crash_the_agent_s_shim(self) -> None:
        self.crash_shim(AGENT)

    @precondition(lambda self: any(self.running.values()))
    @rule(data=st.data())
    def crash_a_project_s_shim(self, data: st.DataObject) -> None:
        self.crash_shim(data.draw(st.sampled_from([name for name, now in self.running.items() if now])))

    def crash_shim(self, project: str) -> None:
        """Kill it once it is there: the one before it may have died a moment ago."""
        victim = eventually(lambda: processes.look(self.host.record(project)["shim"]["pid"]), 20, f"a shim of {project}")
        processes.kill_hard(victim)

    @invariant()
    def every_answer_is_the_model_s(self) -> None:
        assert self.host.is_answering()
        assert self.host.projects() == sorted({AGENT, *self.running})
        for project, now in self.running.items():
            status = self.host.status(project)
            alive = [process.pid for process in self.host.project_processes(project)]
            if now is None:
                assert (status["want"], alive) == ("down", []), status
            else:
                assert (status["want"], status["version"], status["pid"]) == ("up", *now), status
                assert alive == [now[1]], status

    def described(self, project: str) -> str:
        return f"{self.host.status(project)}: {self.host.project_output(project)!r}, not {self.printed[project]}"

    def teardown(self) -> None:
        for project in PROJECTS:
            self.host.kill(project, grace_seconds=0, purge="true")


def test_any_order_of_calls_and_deaths(host: AgentHost) -> None:
    packed = {
        "1": artifact.pack("hello", host.artifacts, "tar.gz"),
        "2": artifact.pack("hello", host.artifacts, "zip"),
        "bad": artifact.pack("no_entry_point", host.artifacts),
    }
    machine = type("LifeOnThisHost", (Life,), {"host": host, "artifacts": packed})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, database=None, derandomize=True,
            suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate], print_blob=False,
        ),
    )  # fmt: skip
