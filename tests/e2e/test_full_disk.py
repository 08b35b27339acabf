"""The disk is full, out of inodes, or read-only: what runs goes on, is started again when it ends, and is killed when asked."""

from __future__ import annotations

import json
import os
import shutil
from typing import Iterator

import pytest

from tests.support import processes
from tests.support.disk import SmallDisk
from tests.support.wait import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.newest, pytest.mark.needs_root]

#: What the agent keeps free is 64 MiB.
OPTIONS = "size=150m,nr_inodes=4000"


@pytest.fixture
def disk(pyz: str, python: str) -> Iterator[SmallDisk]:
    with SmallDisk(pyz, python, OPTIONS) as host:
        yield host


def launch_two(host: SmallDisk) -> None:
    for project in ("web", "other"):
        assert host.launch_fixture(project, "cron_like", version="1", stop={"grace_seconds": 1}).status == 201


def crash(host: SmallDisk, project: str) -> None:
    """The project's process is killed, and its shim starts it again."""
    before = host.status(project)["pid"]
    process = processes.look(before)
    assert process is not None
    processes.kill_hard(process)
    eventually(lambda: host.status(project)["pid"] not in (None, before), message="a new run")
    host.wait_for_state(project, "ready", deadline_seconds=60)


def check_control(host: SmallDisk, refused: int, reason: str) -> None:
    """All that has to work when nothing can be written."""
    answer = host.launch_fixture("new", "hello")
    assert answer.status == refused and reason in answer.json["detail"] + answer.json["hint"], answer
    assert host.launch_fixture("web", "hello", version="2").status == refused
    assert host.status("web")["state"] == "ready"
    assert host.request("GET", "/project/web/logs?format=text&tail=1").status == 200
    crash(host, "web")
    host.crash_agent()
    eventually(host.is_answering, message="the agent again")
    for project in ("web", "other"):  # of the one its new shim starts another run, of the other it ends what it has adopted
        shim = host.crash_shim(project)
        eventually(lambda: host.status(project)["shim_pid"] not in (None, shim.pid), 60, "another shim")  # noqa: B023
    crash(host, "web")
    for project in ("web", "other"):
        killed = host.kill(project)
        assert killed.status == 200 and killed.json["status"] == "Successful", killed
        assert "a reboot would forget" in killed.json["warnings"][0]
        assert host.project_processes(project) == []
        assert host.status(project)["want"] == "down"
    again = host.request("POST", "/project/web/restart")
    assert again.status == 200 and "a reboot would forget" in again.json["warnings"][0]
    assert host.status("web")["state"] == "ready"
    assert host.kill("web", grace_seconds=0).json["status"] == "Successful"


def wanted_on_disk(host: SmallDisk, project: str) -> str:
    return str(json.loads(host.read("projects", project, "want.json"))["want"])


def test_a_full_disk(disk: SmallDisk) -> None:
    launch_two(disk)
    disk.fill("projects", "web", "data", "filler")
    assert disk.launch_fixture("new", "hello").json["largest"][0]["project"] == "web"
    check_control(disk, 507, "web (")
    assert wanted_on_disk(disk, "other") == "up", "the disk did not take it"
    assert disk.kill("web", purge="true").status == 200
    assert not os.path.exists(disk.path("projects", "web"))
    eventually(lambda: wanted_on_disk(disk, "other") == "down", message="the want on the disk, with no hand")
    assert disk.launch_fixture("web", "hello", version="3").status == 201
    assert "warnings" not in disk.kill("web").json


def test_no_inodes(disk: SmallDisk) -> None:
    launch_two(disk)
    folder = disk.use_up_inodes("projects", "web", "data", "many")
    check_control(disk, 507, "inodes")
    shutil.rmtree(folder)
    eventually(lambda: wanted_on_disk(disk, "other") == "down", message="the want on the disk, with no hand")
    assert disk.launch_fixture("web", "hello", version="3").status == 201


def test_a_read_only_disk(disk: SmallDisk) -> None:
    launch_two(disk)
    with disk.read_only():
        check_control(disk, 507, "read-only")
        purge = disk.kill("web", purge="true")
        assert purge.status == 507 and "read-only" in purge.json["detail"], purge
        health = disk.request("GET", "/healthz")
        assert health.status == 503 and "can't be written" in health.json["problems"][0]
    eventually(lambda: wanted_on_disk(disk, "other") == "down", message="the want on the disk, with no hand")
    assert disk.launch_fixture("web", "hello", version="3").status == 201
