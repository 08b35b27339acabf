"""F6, F7: the disk fails, or the quota is used up, at any one step of a call: it is done or nothing is, and the next works."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Iterator

import pytest

from tests.conftest import NEWEST, find_interpreters
from tests.support.agent import AgentHost
from tests.support.refusals import Refusal
from tests.support.wait import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.newest, pytest.mark.slow]

#: More steps than any call has.
MOST = 400
#: What a call is answered whose step can't be done without.
STATUSES = {"EIO": 500, "EDQUOT": 507}


@pytest.fixture
def refusal(tmp_path: Path) -> Refusal:
    return Refusal(str(tmp_path))


@pytest.fixture
def host(pyz: str, tmp_path: Path, refusal: Refusal) -> Iterator[AgentHost]:
    made = AgentHost(pyz, list(find_interpreters(NEWEST).values())[-1])
    made.pyz = refusal.build(pyz, made.base, made.store)
    with made:
        yield made


@pytest.mark.parametrize("error", ["EIO", "EDQUOT"])
def test_at_any_step_of_a_launch(host: AgentHost, refusal: Refusal, error: str) -> None:
    runs = host.launch_fixture("web", "cron_like", version="0", stop={"grace_seconds": 1}).json["pid"]
    version, told = "0", []
    for number in range(1, MOST):
        refusal.arm(getattr(errno, error), number)
        answer = host.launch_fixture("web", "cron_like", version=str(number), stop={"grace_seconds": 1})
        steps = refusal.steps()
        refusal.disarm()
        what = f"{number}: {steps[number - 1] if len(steps) >= number else 'none'}: {answer}"
        status = host.wait_for_state("web", "ready", deadline_seconds=60)
        if answer.status == 201:
            version = str(number)
            assert status["pid"] != runs, what
        else:
            assert answer.status == STATUSES[error] and answer.json["hint"], what
            assert status["pid"] == runs, f"the old release runs on: {what}"
            told.append(what)
        runs = status["pid"]
        assert (status["version"], status["want"]) == (version, "up"), what
        eventually(lambda: host.staging() == [], 60, lambda: str(host.staging()))
        if len(steps) < number:
            break
    else:
        raise AssertionError("a launch has no end")
    assert told, "some steps can't be done without"
    said = host.output() + host.project_output("ant-host-agent").decode()
    assert "incident" not in said, said


@pytest.mark.parametrize("error", ["EIO", "EDQUOT"])
def test_at_any_step_of_a_kill_and_of_a_restart(host: AgentHost, refusal: Refusal, error: str) -> None:
    assert host.launch_fixture("web", "cron_like", version="0", stop={"grace_seconds": 1}).status == 201
    for number in range(1, MOST):
        refusal.arm(getattr(errno, error), number)
        killed = host.kill("web")
        steps = refusal.steps()
        refusal.disarm()
        what = f"{number}: {steps[number - 1] if len(steps) >= number else 'none'}: {killed}"
        assert (killed.status, killed.json["status"]) == (200, "Successful"), what
        assert host.project_processes("web") == [], what
        refusal.arm(getattr(errno, error), number)
        again = host.request("POST", "/project/web/restart")
        more = refusal.steps()
        refusal.disarm()
        what = f"{number}: {more[number - 1] if len(more) >= number else 'none'}: {again}"
        if again.status != 200:
            assert again.status == STATUSES[error] and again.json["hint"], what
            assert host.request("POST", "/project/web/restart").status == 200, what
        assert host.wait_for_state("web", "ready", deadline_seconds=60)["want"] == "up", what
        if len(steps) < number and len(more) < number:
            break
    else:
        raise AssertionError("a kill has no end")
