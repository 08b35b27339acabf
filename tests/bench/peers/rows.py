"""The rows: each asks one peer one thing, and gives what stands in its column."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Sequence, Set, Tuple

from tests.bench.figure import quantile
from tests.bench.peers import programs
from tests.bench.peers.peer import Peer
from tests.bench.setting import Setting, wait_until

MANY = 100
_TREE_SECONDS = 15.0


@dataclass
class Column:
    """What one peer came to, row by row: samples where there are any, the cell in any case."""

    what: str
    cells: Dict[str, str] = field(default_factory=dict)
    samples: Dict[str, Any] = field(default_factory=dict)

    def add(self, row: str, values: Sequence[float], unit: str) -> None:
        """A median with its spread."""
        self.samples[row] = list(values)
        spread = f" ({min(values):.3g}…{max(values):.3g})" if len(values) > 1 else ""
        self.cells[row] = f"{quantile(values, 0.5):.3g}{spread} {unit}"

    def say(self, row: str, text: str) -> None:
        self.cells[row] = text


def measure(peer: Peer, setting: Setting) -> Column:
    """All rows. A row that fails says so in its cell; the others go on."""
    column = Column(peer.install())
    peer.projects = {f"p{number}": programs.sleeper() for number in range(MANY)}
    peer.projects.update(programs.special(peer.base))
    peer.configure()
    rows: Tuple[Callable[[Peer, Column, Setting], None], ...] = (
        _cold_start, _memory_and_starts, _status, _crash_restart, _capture, _survivors, _manager_killed, _upgrade,
    )  # fmt: skip
    try:
        for row in rows:
            try:
                row(peer, column, setting)
            except Exception as error:
                column.say(row.__name__.strip("_"), f"failed: {type(error).__name__}: {str(error)[:120]}")
    finally:
        programs.kill([pid for number in range(MANY) for pid in programs.told(peer.output(f"p{number}"))])
        peer.close()
        programs.kill([pid for project in peer.projects for pid in programs.alive(f"ant-peer-{project}")])
    return column


def _cold_start(peer: Peer, column: Column, setting: Setting) -> None:
    started = time.monotonic()
    peer.start()
    column.add(f"cold start, {len(peer.projects)} configured → first status", [1000 * (time.monotonic() - started)], "ms")


def _start(peer: Peer, project: str) -> float:
    """Milliseconds from the call to the first byte in the log."""
    before = peer.output_bytes(project)
    started = time.monotonic()
    peer.up(project)
    return 1000 * (wait_until(lambda: peer.output_bytes(project) > before, 60) - started)


def _memory_and_starts(peer: Peer, column: Column, setting: Setting) -> None:
    column.add("memory of manager and helpers, 0 running", [peer.pss_kib()], "KiB")
    column.add("start of one: call → first log line", [_start(peer, f"p{number}") for number in range(10)], "ms")
    for number in range(10, 20):
        _start(peer, f"p{number}")
    peer.settle()
    time.sleep(2)  # what a start has left to do is no idle memory
    column.add("memory, 20 running", [peer.pss_kib()], "KiB")
    rest = [f"p{number}" for number in range(20, MANY)]
    started = time.monotonic()
    for project in rest:
        peer.up(project)
    ended = wait_until(lambda: all(peer.output_bytes(project) for project in rest), 120, 0.01)
    column.add(f"start of {len(rest)}: all lines in the logs", [1000 * (ended - started)], "ms")
    peer.settle()
    time.sleep(5)
    column.add(f"memory, {MANY} running", [peer.pss_kib()], "KiB")


def _status(peer: Peer, column: Column, setting: Setting) -> None:
    taken: List[float] = []
    for _ in range(setting.times(300)):
        started = time.monotonic()
        peer.status("p0")
        taken.append(1000 * (time.monotonic() - started))
    column.samples["status"] = taken
    column.say(f"status of one, {MANY} running: p50 / p99", f"{quantile(taken, 0.5):.3g} / {quantile(taken, 0.99):.3g} ms")


def _crash_restart(peer: Peer, column: Column, setting: Setting) -> None:
    taken = [_restart(peer, f"p{number}") for number in range(5)]
    column.add("kill -9 of a project → its next first line", taken, "ms")


def _restart(peer: Peer, project: str) -> float:
    """Milliseconds from the kill of its process to the first byte that is new in the log."""
    before = peer.output_bytes(project)
    pid = programs.told(peer.output(project))[-1]
    started = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    return 1000 * (wait_until(lambda: peer.output_bytes(project) > before, 60) - started)


def _capture(peer: Peer, column: Column, setting: Setting) -> None:
    started = time.monotonic()
    peer.up("numbers")
    size = programs.LINES * 72
    last = b"%09d" % (programs.LINES - 1)
    wait_until(lambda: peer.output_bytes("numbers") >= size or last in _tail(peer), 300, 0.01)
    seconds = time.monotonic() - started
    found = programs.numbers_in(peer.output("numbers"))
    column.add("capture of a program that prints", [size / 1e6 / seconds], "MB/s")
    column.say("lines of it lost", f"{programs.LINES - len(found)} of {programs.LINES}")
    peer.down("numbers")


def _tail(peer: Peer) -> bytes:
    paths = [path for path in peer.log_paths("numbers") if os.path.exists(path)]
    if not paths:
        return b""
    with open(paths[-1], "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 200))
        return file.read()


def _survivors(peer: Peer, column: Column, setting: Setting) -> None:
    peer.up("tree")
    wait_until(lambda: len(programs.alive("ant-peer-tree")) >= 4 and peer.output_bytes("tree") > 0, 60)
    started = time.monotonic()
    peer.down("tree")
    while programs.alive("ant-peer-tree") and time.monotonic() - started < _TREE_SECONDS:
        time.sleep(0.05)
    left = programs.alive("ant-peer-tree")
    column.samples["survivors"] = len(left)
    column.say(f"alive of a tree of 4, {_TREE_SECONDS:.0f} s after its stop", str(len(left)))
    programs.kill(left)


def _manager_killed(peer: Peer, column: Column, setting: Setting) -> None:
    for project in ("silent", "usual", "deaf"):
        peer.up(project)
    wait_until(lambda: bool(programs.alive("ant-peer-silent")) and peer.output_bytes("deaf") > 1000, 60)
    silent = programs.alive("ant-peer-silent")
    usual = programs.alive("ant-peer-usual")
    peer.settle()
    peer.crash()
    time.sleep(2)
    by_itself = peer.is_back()
    survived = usual == programs.alive("ant-peer-usual")
    if not by_itself:
        peer.come_back()
    peer.up("silent")  # as it is wanted; who knows that it runs starts no other
    time.sleep(2)
    copies = len(programs.alive("ant-peer-silent"))
    kept = set(silent) <= set(programs.alive("ant-peer-silent"))
    column.say("kill -9 of the manager: back by itself", "yes" if by_itself else "no")
    column.say("… a writing project lives on", "yes" if survived else "no")
    column.say("… a silent one lives on; copies of it afterwards", f"{'yes' if kept else 'no'}; {copies}")
    programs.kill(programs.alive("ant-peer-deaf")[:1])
    written, output = _numbers_of(peer, "deaf")
    column.samples["lost"] = programs.lost(written, output)
    column.say("… lines lost of one that ignores SIGPIPE", f"{programs.lost(written, output)} of {len(written)}")


def _numbers_of(peer: Peer, project: str) -> Tuple[Set[int], Set[int]]:
    with open(f"{peer.base}/{project}.written", "rb") as file:
        written = programs.numbers_in(file.read())
    time.sleep(1)  # what is on its way arrives
    return written, programs.numbers_in(peer.output(project))


def _upgrade(peer: Peer, column: Column, setting: Setting) -> None:
    """Status calls all the while; whether a project is the same process afterwards."""
    peer.up("p1")
    wait_until(lambda: bool(programs.told(peer.output("p1"))), 60)
    before = programs.told(peer.output("p1"))[-1]
    peer.settle()
    failed, asked = 0, 0
    ended = threading.Event()

    def ask() -> None:
        nonlocal failed, asked
        while not ended.is_set():
            asked += 1
            if not peer.answers():
                failed += 1
            time.sleep(0.005)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        peer.replace()
        time.sleep(1)
    finally:
        ended.set()
        thread.join()
    column.say("upgrade of the manager: status calls failed", f"{failed} of {asked}")
    column.say("… a project of it lives on", "yes" if before in programs.told(peer.output("p1")) else "no")
