"""An upgrade that is interrupted anywhere, by kill -9 or by a power cut, leaves one agent that works, and projects as wanted."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import sys
import threading
from pathlib import Path
from typing import Iterator, List

import pytest

from tests.support import artifact
from tests.support.agent import AGENT, AgentHost
from tests.support.faults import Fault
from tests.support.processes import Process
from tests.support.wait import eventually

pytestmark = pytest.mark.e2e

NEVER = 1_000_000


class Upgraded:
    """A host whose agent is upgraded again and again, and may end at any step of it."""

    def __init__(self, host: AgentHost, fault: Fault, pyz: str) -> None:
        self.host = host
        self.fault = fault
        self._pyz = pyz
        self._number = 0
        self.hello = host.status("hello")["pid"]

    def upgrade(self, mode: str, step: int) -> bool:
        """One upgrade that ends at this step; False when it has fewer. Returns once all is well again."""
        self._number += 1
        path = self.fault.build(self._pyz, self.host.artifacts, f"{mode}-{self._number}")
        self.fault.arm(mode, step)
        call = threading.Thread(target=self._launch, args=(path,))
        call.start()
        eventually(lambda: len(self.fault.steps()) >= step or not call.is_alive(), 120, lambda: str(self.fault.steps()))
        steps = self.fault.steps()
        was_cut = len(steps) >= step
        what = steps[step - 1] if was_cut else "nothing"
        if mode == "power" and was_cut:
            self._boot()
        call.join()
        self.fault.disarm()
        os.unlink(path)
        eventually(self._is_well, 60, lambda: f"all is well after {mode} at step {step}, {what}: {self._state()}")
        return was_cut

    def steps(self) -> int:
        """How many steps an upgrade has that nothing interrupts."""
        assert not self.upgrade("kill", NEVER)
        self.fault.arm("kill", NEVER)
        self.host.launch(AGENT, self.fault.build(self._pyz, self.host.artifacts, "counted"))
        eventually(self._is_well, 60, lambda: str(self._state()))
        steps = len(self.fault.steps())
        self.fault.disarm()
        return steps

    def _launch(self, path: str) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.host.launch(AGENT, path)

    def _boot(self) -> None:
        """Nothing runs any more; what comes up finds other boot ids than on record, and a record that the cut has torn."""
        eventually(lambda: not self.host.processes(), 30, lambda: str(self.host.processes()))
        for number, project in enumerate(sorted(os.listdir(self.host.path("projects")))):
            path = self.host.path("projects", project, "record.json")
            with contextlib.suppress(FileNotFoundError), open(path, "r+", encoding="utf-8") as file:
                data = file.read().replace(_boot_id(), "00000000-0000-0000-0000-000000000000")
                file.seek(0)
                file.truncate()
                file.write(data[: len(data) // 2] if number % 2 else data)
        self.fault.disarm()
        self.host.start()
        self.hello = eventually(lambda: self._pid_of("hello"), 30, lambda: str(self._state()))

    def _pid_of(self, project: str) -> int:
        status = self.host.status(project)
        return int(status["pid"] or 0) if status["state"] == "ready" else 0

    def _those(self, role: str) -> List[Process]:
        """The processes that are an agent, or an agent's own shim, by their command lines."""
        return [process for process in self.host.processes() if process.command.split()[4:6] == [role, self.host.store]]

    def _is_well(self) -> bool:
        """One shim, one agent, the wanted release, no canary, nothing left in staging, and projects as they should be."""
        record, want = self.host.record(AGENT), json.loads(self.host.read("projects", AGENT, "want.json"))
        if (record["state"], record["successor"], record["version"]) != ("ready", None, want["release"]):
            return False
        there = [process.pid for role in ("shim", "agent") for process in self._those(role)]
        if there != [record["shim"]["pid"], record["pid"]]:
            return False
        is_current = os.readlink(self.host.path("projects", AGENT, "current")) == f"releases/{record['version']}"
        return is_current and self.host.is_answering() and not self.host.staging() and self._as_wanted()

    def _as_wanted(self) -> bool:
        if self.host.projects() != [AGENT, "down", "hello"]:
            return False
        hello, down = self.host.status("hello"), self.host.status("down")
        return (hello["state"], hello["pid"], down["want"], down["pid"]) == ("ready", self.hello, "down", None)

    def _state(self) -> object:
        there = [str(process) for role in ("shim", "agent") for process in self._those(role)]
        return self.host.record(AGENT), self.host.read("projects", AGENT, "want.json"), there, self.host.staging()


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


@pytest.fixture
def upgraded(pyz: str, tmp_path: Path) -> Iterator[Upgraded]:
    """An agent that can be interrupted, with a project that runs and one that was killed."""
    host = AgentHost(pyz, os.path.realpath(sys.executable))
    fault = Fault(host.base, host.store)
    host.pyz = fault.build(pyz, host.base, "base")
    with host:
        path = artifact.pack("hello", host.artifacts)
        assert [host.launch(project, path).status for project in ("hello", "down")] == [201, 201]
        assert host.kill("down").status == 200
        yield Upgraded(host, fault, pyz)


@pytest.mark.parametrize("mode", ["kill", "power"])
@pytest.mark.parametrize("share", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_at_a_step(upgraded: Upgraded, mode: str, share: int) -> None:
    steps = upgraded.steps()
    chosen = range(1, steps + 1) if share == 1 else [steps * part // (share + 1) for part in range(1, share + 1)]
    for step in chosen:
        upgraded.upgrade(mode, step)
