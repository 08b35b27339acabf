"""Work that may take its time, or hang: done beside the resident in a process that leaves its verdict in a file.

A turn only looks: is there a verdict, is the process alive, has it to be started? So output flows on, a kill is heard
at once, and neither the death of a shim nor of an agent interrupts it: whoever comes next looks at the same file.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any, Callable, Dict, List, NoReturn, Optional, Sequence, Tuple

from agent.host import prctl, procfs, signals
from agent.shim import ladder
from agent.shim.journal import Journal
from agent.shim.record import Errand, read_errand, write_errand
from agent.shim.tree import Tree
from agent.store.layout import ProjectLayout

#: The kinds of errands: of the launch's generation, or of one run.
PREPARE, PROBE = "prepare", "probe"
#: Between two tries with an errand that somebody killed.
AGAIN_SECONDS = 0.5

Result = Dict[str, Any]
#: Writes down what is known so far; the last word is the verdict.
Tell = Callable[[Result], None]


class Errands:
    """The one errand of a project, as a turn sees it."""

    def __init__(self, layout: ProjectLayout, journal: Journal, resident: int) -> None:
        self._layout = layout
        self._journal = journal
        self._resident = resident

    @property
    def pid(self) -> Optional[int]:
        """Its process, while it lives."""
        errand = self._journal.record.errand
        return errand.pid if errand is not None and procfs.is_alive(errand.pid, errand.start_time) else None

    @property
    def is_silent(self) -> bool:
        """Whether its end will not be told, since another shim began it."""
        errand = self._journal.record.errand
        return self.pid is not None and errand is not None and errand.parent != self._resident

    def is_about(self, kind: str, about: int) -> bool:
        """Whether the errand on record is this one, and of this boot."""
        errand = self._journal.record.errand
        return errand is not None and (errand.kind, errand.about, errand.boot_id) == (kind, about, procfs.boot_id())

    @property
    def may_start_again(self) -> bool:
        """Whether enough time has passed for another try with one that ended without a verdict."""
        errand = self._journal.record.errand
        return self.pid is None and (errand is None or time.monotonic() - errand.clock >= AGAIN_SECONDS)

    def result(self, kind: str, about: int) -> Result:
        """What this errand has told so far."""
        return read_errand(self._layout, kind, about)

    def start(self, kind: str, about: int, work: Callable[[Tell], None], keep: Sequence[int] = ()) -> None:
        """Begin it in a process of its own, which keeps these descriptors only. OSError if fork fails."""
        self.cancel()
        if self.result(kind, about):  # of an earlier try
            write_errand(self._layout, kind, about, {})
        gate_reader, gate = os.pipe()
        try:
            pid = os.fork()
            if pid == 0:
                _run(self._layout, kind, about, work, gate_reader, keep)
            # the gate keeps it alive, so it has a start time; it begins once it is on record
            errand = Errand(pid, procfs.start_time(pid) or 0, kind, about, self._resident, procfs.boot_id(), time.monotonic())
            self._journal.publish(errand=errand)
            os.write(gate, b"\n")
        finally:
            os.close(gate_reader)
            os.close(gate)

    def cancel(self) -> Tuple[Dict[str, Any], ...]:
        """End it with all that it started; what was alive is returned as the ladder lists it."""
        killed = ladder.end(Tree(self.pid, os.getpid(), b"", None, scattered=False)) if self.pid is not None else ()
        if self._journal.record.errand is not None:
            self._journal.note(errand=None)
        return killed


def _run(
    layout: ProjectLayout, kind: str, about: int, work: Callable[[Tell], None], gate: int, keep: Sequence[int]
) -> NoReturn:  # fmt: skip
    """In the forked child: what it starts and loses comes back to it, and no lock of the shim is held on."""

    def tell(result: Result) -> None:
        write_errand(layout, kind, about, result)

    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signals.restore_defaults()
        _close_all_but(0, 1, 2, gate, *keep)
        prctl.set_subreaper()
        prctl.set_title(f"ant-host-agent {kind} {layout.project}".encode())
        if os.read(gate, 1):
            os.close(gate)
            work(tell)
    finally:
        os._exit(0)


def _close_all_but(*kept: int) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:  # the listing's own
                continue


def descendants_ended() -> Tuple[int, ...]:
    """SIGKILL everything below this process and reap it; the pids. For an errand, between two commands."""
    ended: List[int] = []
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                alive = procfs.descendants([os.getpid()], procfs.processes())
                ended += [process.pid for process in alive]
                for process in alive:
                    signals.send(process.pid, process.start_time, signal.SIGKILL)
                os.waitpid(-1, 0)
        except ChildProcessError:
            return tuple(dict.fromkeys(ended))
