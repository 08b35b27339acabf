"""Random calls with random deaths of our processes, against a model of a few lines.

ANT_STATEFUL_EXAMPLES and ANT_STATEFUL_STEPS make it larger than CI can afford.
"""

from __future__ import annotations

import functools
import os
import time
import traceback
from typing import Callable, ClassVar, Dict, List, Optional, Tuple, TypeVar, cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.support import artifact, processes
from tests.support.agent import AGENT, AgentHost
from tests.support.wait import eventually

pytestmark = pytest.mark.e2e

Step = TypeVar("Step", bound=Callable[..., None])


def told(step: Step) -> Step:
    """A step that notes itself and, should it fail, how and after which others."""

    @functools.wraps(step)
    def telling(self: Life, **arguments: object) -> None:
        given = ", ".join(f"{value}" for name, value in arguments.items() if name != "data")
        self.story.append(f"{time.strftime('%H:%M:%S')} {step.__name__} {given}")
        try:
            step(self, **arguments)
        except BaseException as error:
            if isinstance(error, Exception) and not self.first_failure:
                known = {name: self.host.record(name) for name in self.running}
                self.first_failure.extend([*self.story, traceback.format_exc(), f"records: {known}"])
            raise

    return cast(Step, telling)


EXAMPLES = int(os.environ.get("ANT_STATEFUL_EXAMPLES", "2"))
STEPS = int(os.environ.get("ANT_STATEFUL_STEPS", "10"))
#: The small run is the same each time; the large one is there to find something new.
IS_LARGE = "ANT_STATEFUL_EXAMPLES" in os.environ

PROJECTS = ("one", "two", "three")
VERSIONS = ("1", "2")
projects = st.sampled_from(PROJECTS)


class Life(RuleBasedStateMachine):
    """What should be so: which version each known project runs (None: killed), its pid, and all it ever printed."""

    host: AgentHost
    artifacts: Dict[str, str]

    #: Of the first failure: a run against real processes need not fail again, and Hypothesis tells only of the second.
    first_failure: ClassVar[List[str]] = []

    def __init__(self) -> None:
        super().__init__()
        self.story: List[str] = []
        self.running: Dict[str, Optional[Tuple[str, int]]] = {}
        self.printed: Dict[str, List[str]] = {}

    @rule(project=projects, version=st.sampled_from(VERSIONS))
    @told
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
    @told
    def launch_what_fails(self, project: str) -> None:
        reply = self.host.launch(project, self.artifacts["bad"], version="bad")
        assert reply.status == 422, reply

    @rule(project=projects)
    @told
    def kill(self, project: str) -> None:
        reply = self.host.kill(project)
        if project not in self.running:
            assert reply.status == 404, reply
            return
        now, self.running[project] = self.running[project], None
        assert reply.status == 200, reply
        assert [entry["pid"] for entry in reply.json["killed"]] == ([now[1]] if now else [])

    @rule(project=projects)
    @told
    def purge(self, project: str) -> None:
        reply = self.host.kill(project, purge="true")
        assert reply.status == (200 if project in self.running else 404), reply
        self.running.pop(project, None)
        self.printed.pop(project, None)

    @rule(project=projects)
    @told
    def logs(self, project: str) -> None:
        if project not in self.running:
            assert self.host.request("GET", f"/project/{project}/logs").status == 404
            return
        wanted = "".join(self.printed[project]).encode()
        eventually(lambda: self.host.project_output(project) == wanted, 20, lambda: self.described(project))

    @rule()
    @told
    def crash_the_agent(self) -> None:
        self.host.crash_agent()

    @rule()
    @told
    def crash_the_agent_s_shim(self) -> None:
        self.crash_shim(AGENT)

    @precondition(lambda self: any(self.running.values()))
    @rule(data=st.data())
    @told
    def crash_a_project_s_shim(self, data: st.DataObject) -> None:
        self.crash_shim(data.draw(st.sampled_from([name for name, now in self.running.items() if now])))

    def crash_shim(self, project: str) -> None:
        """Kill it once it is there: the one before it may have died a moment ago."""
        victim = eventually(lambda: processes.look(self.host.record(project)["shim"]["pid"]), 20, project)
        processes.kill_hard(victim)

    @invariant()
    @told
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
    story: List[str] = []
    machine = type("LifeOnThisHost", (Life,), {"host": host, "artifacts": packed, "first_failure": story})
    run = settings(
        max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, database=None, derandomize=not IS_LARGE,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate], print_blob=False,
    )  # fmt: skip
    try:
        run_state_machine_as_test(machine, settings=run)
    except Exception as error:
        raise AssertionError("\n".join([*story, "then Hypothesis said:", repr(error)])) from None
