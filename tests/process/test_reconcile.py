"""Reconcile looks at what has changed, and at all that has: a killed shim, a want, an outcome."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, List

import pytest

from agent.operations import reconcile
from agent.operations.agent import Agent
from agent.operations.reconcile import AtRest
from agent.shim.handle import Handle
from agent.shim.record import Outcome, Want, write_record, write_want
from agent.store import releases
from tests.support.wait import eventually

SLEEP = "import time; time.sleep(1000)"


class Scans:
    """Scans one after the other, and which projects each of them looked into."""

    def __init__(self, shims: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self._agent = shims.agent
        self._at_rest: AtRest = {}
        self._looked_into: List[str] = []
        see_to = reconcile._see_to

        def noting(agent: Agent, handle: Handle) -> bool:
            self._looked_into.append(handle.layout.project)
            return see_to(agent, handle)

        monkeypatch.setattr(reconcile, "_see_to", noting)

    def scan(self) -> List[str]:
        self._looked_into.clear()
        reconcile.reconcile(self._agent, self._at_rest)
        return list(self._looked_into)

    def until_at_rest(self, handle: Handle) -> None:
        """Returns once a scan leaves the project alone, as if nothing had happened for a while."""

        def is_left_alone() -> bool:
            then = time.time() - 60
            os.utime(handle.layout.root, (then, then))
            self.scan()
            return self.scan() == []

        eventually(is_left_alone, message=f"{handle.layout.project} at rest")


@pytest.fixture
def scans(shims: Any, monkeypatch: pytest.MonkeyPatch) -> Scans:
    return Scans(shims, monkeypatch)


def test_what_has_just_changed_is_looked_into(shims: Any, scans: Scans, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second change within the tick of a file system's clock would not be seen in its time."""
    shims.run("web", SLEEP)
    with monkeypatch.context() as patch:
        patch.setattr(reconcile, "_CLOCK_SECONDS", 1e9)
        assert [scans.scan(), scans.scan()] == [["web"], ["web"]]
    scans.until_at_rest(shims.handle("web"))


def test_a_killed_shim_is_replaced(shims: Any, scans: Scans) -> None:
    before = shims.run("web", SLEEP)
    handle = shims.handle("web")
    scans.until_at_rest(handle)
    os.kill(before.shim["pid"], signal.SIGKILL)
    eventually(lambda: not handle.is_alive, message="the lock is free")
    assert scans.scan() == ["web"]
    after = handle.wait(lambda record: record.shim != before.shim, 60)
    assert after is not None and after.pid == before.pid


def test_an_outcome_is_concluded(shims: Any, scans: Scans) -> None:
    """No shim is left, and the agent that waited for it died."""
    shims.add_release("web", SLEEP)
    shims.add_release("web", SLEEP, version="2")
    shims.up("web")
    shims.await_state("web", "ready")
    handle = shims.handle("web")
    record = shims.down("web")
    eventually(lambda: not handle.is_alive, message="the end of the shim")
    scans.until_at_rest(handle)
    write_want(handle.layout, Want(True, record.generation, "2"))
    write_record(handle.layout, type(record)(**{**vars(record), "outcome": Outcome(record.generation, "2", True, 2)}))
    assert scans.scan() == ["web"]
    assert releases.current(handle.layout) == "2"


def test_one_that_is_gone_is_forgotten(shims: Any, scans: Scans) -> None:
    handle = shims.handle("web")
    os.mkdir(handle.layout.root)
    scans.until_at_rest(handle)
    os.rmdir(handle.layout.root)
    assert scans.scan() == []
    assert scans._at_rest == {}


def test_it_outlives_whatever_goes_wrong(shims: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """The store's folders are away for a moment; what it makes of one project is a mistake of ours."""
    see_to, heard = reconcile._see_to, []

    def see_to_all_but_one(agent: Agent, handle: Handle) -> bool:
        return see_to(agent, handle) if handle.layout.project != "odd" else bool({}["odd"])

    def says(what: str) -> bool:
        heard.append(capfd.readouterr().err)
        return what in "".join(heard)

    monkeypatch.setattr(reconcile, "INTERVAL_SECONDS", 0.02)
    monkeypatch.setattr(reconcile, "_see_to", see_to_all_but_one)
    before, stopped = shims.run("web", SLEEP), threading.Event()
    loop = threading.Thread(target=reconcile.keep_reconciling, args=(shims.agent, stopped))
    loop.start()
    try:
        for folder in (shims.store.staging, shims.store.projects):
            os.rename(folder, folder + ".away")
            Path(folder).write_text("no folder")
            eventually(lambda folder=folder: says(f"NotADirectoryError: [Errno 20] Not a directory: '{folder}'"), message=folder)
            os.unlink(folder)
            os.rename(folder + ".away", folder)
        os.mkdir(shims.store.project("odd").root)
        eventually(lambda: says("reconcile odd: KeyError: 'odd'"), message="what it says of the odd one")
        os.rmdir(shims.store.project("odd").root)
        os.kill(before.shim["pid"], signal.SIGKILL)
        eventually(lambda: shims.handle("web").record().shim != before.shim, message="another shim")
        assert shims.handle("web").record().pid == before.pid
    finally:
        stopped.set()
        loop.join()
