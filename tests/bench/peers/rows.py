"""The rows: each asks one manager one thing, and fills what stands in its column."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Callable, List, Set, Tuple

from tests.bench.peers import programs
from tests.bench.peers.cells import Column, Row
from tests.bench.peers.peer import Peer
from tests.bench.peers.programs import CAPTURES, MANY, SINGLE
from tests.bench.setting import Setting, wait_until

_TREE_SECONDS = 15.0
_TREE = 4

COLD = Row(
    f"cold start, {SINGLE + MANY + CAPTURES + 5} configured → first status", "ms",
    "it opens a store that survives a power cut, forks its unpacker and proves itself to its shim, once a boot",
)  # fmt: skip
_MEMORY_WHY = "a shim for each project, which outlives the agent, loses no line and leaves no process behind"
MEMORY = {
    0: Row("memory of manager and helpers, none running", "MiB", "HTTP, keys, TLS, unpacking and the command line in one Python"),
    1: Row("… 1 running", "MiB", _MEMORY_WHY),
    SINGLE: Row(f"… {SINGLE} running", "MiB", _MEMORY_WHY),
    MANY: Row(f"… {MANY} running", "MiB", _MEMORY_WHY),
}
_START_WHY = "it is a whole launch: an upload, checked, unpacked in a confined process and committed; theirs only execute"
START = Row("start of one: call → first log line", "ms", _START_WHY)
STARTS = Row(f"start of {MANY}: → all first lines in the logs", "ms", _START_WHY)
STATUS = Row(f"status of one, {MANY} running", "ms", "HTTP with a key, read afresh from the store and the kernel")
STATUS_LATE = Row("… p99", "ms", STATUS.why, quantile=0.99)
RESTART = Row("kill -9 of a project → its next first line", "ms", "the first restart waits 0.1 s (`delay_seconds`)")
CAPTURE = Row(
    "capture of 2,000,000 lines printed at full speed", "MB/s", "a FIFO that outlives its reader, and a mark each second",
    is_more_better=True,
)  # fmt: skip
LOST = Row("… lines of them lost")
SURVIVORS = Row(f"alive of a tree of {_TREE} that forks twice, {_TREE_SECONDS:.0f} s after its stop")
BACK = Row("kill -9 of the manager: back by itself", is_more_better=True)
WRITES_ON = Row("… a project that prints lives on", is_more_better=True)
SILENT = Row("… copies of a silent one once it is back and asked to start it")
HOLES = Row("… numbered lines lost of one that ignores SIGPIPE")
UPGRADE = Row("upgrade of the manager under status calls: failed")
WAIT = Row("… longest wait for a status", "ms", "a call that reaches the agent as it hands over waits for its successor")
LIVES_ON = Row("… a project of it lives on", is_more_better=True)

ROWS = (
    COLD, *MEMORY.values(), START, STARTS, STATUS, STATUS_LATE, RESTART, CAPTURE, LOST, SURVIVORS, BACK, WRITES_ON, SILENT, HOLES,
    UPGRADE, WAIT, LIVES_ON,
)  # fmt: skip


def measure(peer: Peer, setting: Setting) -> Column:
    """All rows. One that can't be measured says so in the column's `failed`; the others go on."""
    column = Column(peer.install())
    peer.projects = programs.every(peer.base)
    peer.configure()
    asked: Tuple[Callable[[Peer, Column, Setting], None], ...] = (
        _cold_start, _memory_and_starts, _status, _crash_restart, _capture, _survivors, _manager_killed, _upgrade,
    )  # fmt: skip
    try:
        for ask in asked:
            try:
                ask(peer, column, setting)
            except Exception as error:
                column.failed.append(f"{ask.__name__.strip('_')}: {type(error).__name__}: {str(error)[:160]}")
    finally:
        programs.kill([pid for project in peer.projects for pid in programs.told(peer.output(project))])
        peer.close()
        programs.kill([pid for project in peer.projects for pid in programs.alive(f"ant-peer-{project}")])
    return column


def _cold_start(peer: Peer, column: Column, setting: Setting) -> None:
    taken = []
    for number in range(setting.times(5)):
        if number:
            peer.stop()
        started = time.monotonic()
        peer.start()
        taken.append(1000 * (time.monotonic() - started))
    column.add(COLD, taken)


def _start(peer: Peer, project: str) -> float:
    """Milliseconds from the call to the first byte in the log."""
    before = peer.output_bytes(project)
    started = time.monotonic()
    peer.up(project)
    return 1000 * (wait_until(lambda: peer.output_bytes(project) > before, 60) - started)


def _memory(peer: Peer, column: Column, running: int) -> None:
    peer.settle()
    time.sleep(3)  # what a start has left to do is no idle memory
    column.add(MEMORY[running], [peer.pss_kib() / 1024])


def _memory_and_starts(peer: Peer, column: Column, setting: Setting) -> None:
    _memory(peer, column, 0)
    taken = [_start(peer, "p0")]
    _memory(peer, column, 1)
    taken += [_start(peer, f"p{number}") for number in range(1, SINGLE)]
    _memory(peer, column, SINGLE)
    column.add(START, taken)
    for number in range(SINGLE):
        peer.down(f"p{number}")
    many = [f"m{number}" for number in range(MANY)]
    started = time.monotonic()
    for project in many:
        peer.up(project)
    ended = wait_until(lambda: all(peer.output_bytes(project) for project in many), 120, 0.01)
    column.add(STARTS, [1000 * (ended - started)])
    _memory(peer, column, MANY)


def _status(peer: Peer, column: Column, setting: Setting) -> None:
    taken: List[float] = []
    for _ in range(setting.times(500)):
        started = time.monotonic()
        peer.status("m0")
        taken.append(1000 * (time.monotonic() - started))
    column.add(STATUS, taken)
    column.add(STATUS_LATE, taken)


def _crash_restart(peer: Peer, column: Column, setting: Setting) -> None:
    column.add(RESTART, [_restart(peer, f"m{number}") for number in range(7)])


def _restart(peer: Peer, project: str) -> float:
    """Milliseconds from the kill of its process to the first byte that is new in the log."""
    before = peer.output_bytes(project)
    pid = programs.told(peer.output(project))[-1]
    started = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    return 1000 * (wait_until(lambda: peer.output_bytes(project) > before, 60) - started)


def _capture(peer: Peer, column: Column, setting: Setting) -> None:
    rates, lost = [], 0
    for number in range(CAPTURES):
        project = f"numbers{number}"
        started = time.monotonic()
        peer.up(project)
        size = programs.LINES * programs.LINE_BYTES
        wait_until(lambda: peer.output_bytes(project) >= size or programs.LAST in _tail(peer, project), 300, 0.01)  # noqa: B023
        rates.append(size / 1e6 / (time.monotonic() - started))
        lost += programs.LINES - len(programs.numbers_in(peer.output(project)))
        peer.down(project)
    column.add(CAPTURE, rates)
    column.say(LOST, f"{lost} of {CAPTURES * programs.LINES}", lost)


def _tail(peer: Peer, project: str) -> bytes:
    paths = [path for path in peer.log_paths(project) if os.path.exists(path)]
    if not paths:
        return b""
    with open(paths[-1], "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 200))
        return file.read()


def _survivors(peer: Peer, column: Column, setting: Setting) -> None:
    peer.up("tree")
    wait_until(lambda: len(programs.alive("ant-peer-tree")) >= _TREE and peer.output_bytes("tree") > 0, 60)
    started = time.monotonic()
    peer.down("tree")
    while programs.alive("ant-peer-tree") and time.monotonic() - started < _TREE_SECONDS:
        time.sleep(0.05)
    left = programs.alive("ant-peer-tree")
    column.say(SURVIVORS, str(len(left)), len(left))
    programs.kill(left)


def _manager_killed(peer: Peer, column: Column, setting: Setting) -> None:
    for project in ("silent", "usual", "deaf"):
        peer.up(project)
    wait_until(lambda: bool(programs.alive("ant-peer-silent")) and peer.output_bytes("deaf") > 1000, 60)
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
    column.say(BACK, _yes(by_itself), by_itself)
    column.say(WRITES_ON, _yes(survived), survived)
    column.say(SILENT, str(copies), copies)
    programs.kill(programs.alive("ant-peer-deaf")[:1])
    written, output = _numbers_of(peer, "deaf")
    lost = programs.lost(written, output)
    column.say(HOLES, f"{lost} of {len(written)}", lost)


def _numbers_of(peer: Peer, project: str) -> Tuple[Set[int], Set[int]]:
    with open(f"{peer.base}/{project}.written", "rb") as file:
        written = programs.numbers_in(file.read())
    time.sleep(1)  # what is on its way arrives
    return written, programs.numbers_in(peer.output(project))


def _upgrade(peer: Peer, column: Column, setting: Setting) -> None:
    """Status calls all the while; whether a project that was started just before is the same process afterwards."""
    _start(peer, "kept")
    wait_until(lambda: bool(programs.told(peer.output("kept"))), 60)  # it has said so, and then it becomes a sleeper
    before = programs.told(peer.output("kept"))[-1]
    peer.settle()
    waits: List[float] = []
    failures: List[bool] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            started = time.monotonic()
            failures.append(not peer.answers())
            waits.append(1000 * (time.monotonic() - started))
            time.sleep(0.005)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        peer.replace()
        time.sleep(1)
    finally:
        ended.set()
        thread.join()
    column.say(UPGRADE, f"{sum(failures)} of {len(failures)}", sum(failures))
    column.add(WAIT, [max(waits)])
    if any(failures):  # who is refused at once has not waited
        del column.values[WAIT.title]
    kept = before in programs.told(peer.output("kept"))
    column.say(LIVES_ON, _yes(kept), kept)


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"
