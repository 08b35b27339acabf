"""What a project may use, as the kernel has it, of the built agent: run by root, and by a user without any rights."""

from __future__ import annotations

import pwd
from typing import List

import pytest

from tests.support import processes
from tests.support.agent import AgentHost

pytestmark = [pytest.mark.e2e, pytest.mark.newest]


def limit(pid: int, name: str) -> List[str]:
    with open(f"/proc/{pid}/limits", encoding="ascii") as file:
        line = next(line for line in file if line.startswith(name))
    return line[len(name) :].split()[:2]


def is_root(host: AgentHost) -> bool:
    return processes.status(host.agent_pid)["Uid"].split()[0] == "0"


def test_fewer_files_and_no_way_to_more_rights(any_user_host: AgentHost, project: str) -> None:
    host = any_user_host
    launched = host.launch_fixture(project, "hello", limits={"open_files": 77})
    assert launched.status == 201, launched
    status = processes.status(launched.json["pid"])
    assert limit(launched.json["pid"], "Max open files") == ["77", "77"]
    assert status["NoNewPrivs"] == "1"
    assert status["Uid"] == processes.status(host.agent_pid)["Uid"]
    again = host.launch_fixture(project, "hello", new_privileges=True)
    assert again.status == 201, again
    assert processes.status(again.json["pid"])["NoNewPrivs"] == "0"
    assert limit(again.json["pid"], "Max open files") != ["77", "77"]


@pytest.mark.parametrize("limits", [{"memory_bytes": 1 << 28}, {"cpus": 0.5}, {"processes": 50}], ids=str)
def test_a_limit_is_held_or_refused(limits: dict[str, float], any_user_host: AgentHost, project: str) -> None:
    host = any_user_host
    assert host.launch_fixture(project, "hello", version="1").status == 201
    answer = host.launch_fixture(project, "hello", version="2", limits=limits)
    if answer.status == 201:
        with open(f"/proc/{answer.json['pid']}/cgroup", encoding="utf-8") as file:
            assert f"-{project}" in file.read()
        return
    (name,) = limits
    assert (answer.status, answer.json["step"], answer.json["field"]) == (422, "limits", f"limits.{name}"), answer
    assert "this host can't enforce" in answer.json["detail"] and "Delegate=yes" in answer.json["hint"]
    assert (host.status(project)["state"], host.status(project)["version"]) == ("ready", "1"), "the old release runs on"


def test_another_user_is_root_s_to_choose(any_user_host: AgentHost, project: str) -> None:
    host = any_user_host
    answer = host.launch_fixture(project, "hello", user="daemon")
    if is_root(host):
        assert answer.status == 201, answer
        uid = str(pwd.getpwnam("daemon").pw_uid)
        assert processes.status(answer.json["pid"])["Uid"].split() == [uid] * 4
    else:
        assert (answer.status, answer.json["step"]) == (422, "user")
        assert "Run the agent as root" in answer.json["hint"]
