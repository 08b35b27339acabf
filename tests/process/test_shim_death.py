"""kill -9 of a shim: the project runs on, its next shim adopts it, and a kill still leaves nothing."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from agent.host import files, procfs, signals
from agent.model import LogPolicy
from agent.shim import child, resident, tree
from agent.shim.record import POKE
from agent.store.segments import segment_numbers
from tests.support.wait import eventually

NUMBERS = """
import time, sys
n = 0
while True:
    n += 1
    sys.stdout.write("line %07d\\n" % n); sys.stdout.flush()
    if n % 1000 == 0: time.sleep(0.001)
"""

DAEMON = """
import os, signal, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("daemon", os.getpid(), flush=True)
        time.sleep(1000)
    os._exit(0)
time.sleep(1000)
"""


def _kill_shim(shims: Any, project: str) -> None:
    handle = shims.handle(project)
    os.kill(handle.record().shim["pid"], signal.SIGKILL)
    eventually(lambda: not handle.is_alive, message="the lock is free")


def test_the_same_child_runs_on_under_a_new_shim(shims: Any) -> None:
    before = shims.run("numbers", "import time; time.sleep(1000)")
    _kill_shim(shims, "numbers")
    shims.handle("numbers").see_to_it()
    after = shims.handle("numbers").wait(lambda r: r.shim != before.shim and r.adopted, 60)
    assert after is not None and (after.pid, after.start_time) == (before.pid, before.start_time)


def test_no_line_is_lost_or_repeated_over_twenty_deaths(shims: Any) -> None:
    shims.run("numbers", NUMBERS)
    handle = shims.handle("numbers")
    for _ in range(20):
        shim = handle.record().shim
        size = len(shims.output("numbers"))
        _kill_shim(shims, "numbers")
        handle.see_to_it()
        assert handle.wait(lambda r, shim=shim: r.shim != shim, 60)
        eventually(lambda size=size: len(shims.output("numbers")) > size, message="output goes on")
    shims.down("numbers")
    lines = shims.output("numbers").splitlines()
    assert lines == [b"line %07d" % n for n in range(1, len(lines) + 1)]


def test_a_new_shim_keeps_all_that_the_release_wants_kept(shims: Any) -> None:
    """Before it has read the release it must not go by what other releases want (10 segments of 10 MiB)."""
    shims.run("numbers", NUMBERS, logs=LogPolicy(segment_bytes=1 << 40, segments=1))
    handle, first = shims.handle("numbers"), shims.store.project("numbers").logs + "/output-00000001.log"
    _kill_shim(shims, "numbers")
    size = os.path.getsize(first)
    os.truncate(first, size + (20 << 20))
    handle.see_to_it()
    eventually(lambda: os.path.getsize(first) > size + (20 << 20), 60, "output goes on")
    assert segment_numbers(os.path.dirname(first)) == [1]


def test_a_kill_after_an_adoption_finds_the_escapee(shims: Any) -> None:
    shims.run("daemon", DAEMON)
    output = shims.await_output("daemon", b"\n")
    _kill_shim(shims, "daemon")
    record = shims.down("daemon")
    assert int(output.split()[1]) in [entry["pid"] for entry in record.killed]
    assert shims.leftovers() == []


def test_the_exit_code_is_known_after_an_adoption(shims: Any) -> None:
    shims.run("code", "import sys, time, os\nwhile not os.path.exists('go'): time.sleep(0.01)\nsys.exit(42)")
    _kill_shim(shims, "code")
    shims.handle("code").see_to_it()
    assert shims.handle("code").wait(lambda r: r.adopted, 60)
    open(shims.store.project("code").release("1") + "/go", "w").close()
    record = shims.handle("code").wait(lambda r: r.exits, 60)
    assert record is not None and record.exits[-1]["exit_cause"]["code"] == 42


@pytest.fixture
def fatal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where this file is, a turn that starts a program is killed when that runs, and before it can say so; once."""
    release, path = tree.Spawned.release, tmp_path / "fatal"

    def release_and_die(spawned: tree.Spawned) -> object:
        failure = release(spawned)
        if path.exists():
            path.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return failure

    monkeypatch.setattr(tree.Spawned, "release", release_and_die)
    return path


def test_what_a_killed_turn_has_started_goes_on(fatal: Path, request: pytest.FixtureRequest) -> None:
    shims = request.getfixturevalue("shims")  # after its turns were told when to die
    before = shims.run("there", "import time; time.sleep(1000)")
    fatal.touch()
    want = shims.up("there")
    record = shims.handle("there").wait(lambda r: r.generation == want.generation and r.state == "ready", 60)
    assert record is not None and record.run == before.run + 1 and not fatal.exists(), shims.handle("there").record()
    assert [entry["pid"] for entry in shims.down("there").killed] == [record.pid]


@pytest.fixture
def unanswered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where this file is, a turn is killed that would tell its shim that all is done; once."""
    answer, path = resident._answer, tmp_path / "unanswered"

    def answer_or_die(writer: Any, given: resident.Answer) -> None:
        if given.done and path.exists():
            path.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        answer(writer, given)

    monkeypatch.setattr(resident, "_answer", answer_or_die)
    return path


def test_a_shim_that_outlives_its_project_leaves_the_next_of_that_name_alone(unanswered: Path, request: Any) -> None:
    shims = request.getfixturevalue("shims")  # after its turns were told when to die
    outlives = shims.run("there", "import time; time.sleep(1000)").shim
    unanswered.touch()
    shims.down("there")
    eventually(lambda: not unanswered.exists(), 30, "the end of the last turn")
    shutil.rmtree(shims.store.project("there").root)
    record = shims.run("there", "import time; time.sleep(1000)")
    eventually(lambda: not procfs.is_alive(outlives["pid"], outlives["start_time"]), 30, "it is through")
    now = shims.handle("there").record()
    assert (now.run, now.pid, now.shim, now.state) == (1, record.pid, record.shim, "ready") and now.shim != outlives
    assert procfs.is_alive(now.pid, now.start_time)


@pytest.fixture
def told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel before 6.15, and no ancestor that would learn a status, as PID 1 never tells it."""
    monkeypatch.setattr(tree, "status_by_pidfd", lambda _: None)
    monkeypatch.setattr(child, "_orphan_status", lambda *_: None)


@pytest.mark.usefixtures("told_nothing")
def test_the_end_of_an_adopted_child_is_seen_though_nobody_tells_it(request: pytest.FixtureRequest) -> None:
    shims = request.getfixturevalue("shims")  # after the kernel has been made dumb
    before = shims.run("mute", "import time; time.sleep(1000)")
    _kill_shim(shims, "mute")
    shims.handle("mute").see_to_it()
    adopted = shims.handle("mute").wait(lambda r: r.shim != before.shim and r.adopted, 10)
    assert adopted is not None
    os.kill(before.pid, signal.SIGKILL)
    after = shims.handle("mute").wait(lambda r: r.run > before.run and r.pid is not None, 30)
    assert after is not None
    assert after.exits[-1]["exit_cause"]["kind"] == "unknown"


TICKS = """
import time
with open({path!r}, "w") as file:
    while True:
        print("x" * 10000, flush=True)
        file.write("x")
        file.flush()
        time.sleep(0.001)
"""


def test_a_project_whose_folder_was_deleted_runs_on(shims: Any, tmp_path: Path) -> None:
    """Its output is drained, its shim says once that it can't go on, and ends with it."""
    ticks = tmp_path / "ticks"

    def told() -> int:
        return sum(f"{layout.root} was deleted" in line.get("reason", "") for line in files.read_lines(shims.store.events))

    layout, logs = shims.store.project("web"), LogPolicy(segment_bytes=20000)
    record = shims.run("web", TICKS.format(path=str(ticks)), logs=logs)
    shim = record.shim["pid"], record.shim["start_time"]
    os.rename(layout.root, tmp_path / "gone")
    for _ in range(3):
        size = ticks.stat().st_size
        signals.send(*shim, POKE)
        eventually(lambda: told() == 1, message="it says so")
        eventually(lambda size=size: ticks.stat().st_size > size + 100, message="it is not held up")  # type: ignore[misc]
    assert told() == 1 and not os.path.exists(layout.root)
    os.kill(record.pid, signal.SIGKILL)
    eventually(lambda: procfs.start_time(shim[0]) != shim[1], 30, "the end of its shim")
