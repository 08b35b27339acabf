"""The agent's side of a shim: write the want, make sure that somebody carries it out, wait for the record."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from dataclasses import replace
from typing import Callable, Dict, Iterator, List, Optional, Tuple

from agent.errors import Busy
from agent.host import drafts, locks, signals, standin
from agent.model import AGENT_PROJECT
from agent.shim.record import (
    POKE,
    Record,
    Want,
    draft_want,
    forget,
    is_volatile,
    needs_shim,
    read_record,
    read_want,
    settle_want,
    write_want,
)
from agent.store.layout import ProjectLayout
from agent.store.segments import prepare

_ANSWER_SECONDS = 5.0
_MESSAGE_BYTES = 4096
#: Who waits for a record looks whether its file is another one, and each so many times into it.
_SURE_LOOKS = 8


class Control:
    """The agent's end of the socketpair with its own shim: says that it is ready, and asks for forked shims."""

    def __init__(self, control: socket.socket) -> None:
        self._socket = control
        self._turn = threading.Condition()
        self._asked = 0
        #: What was asked and not yet heard: the answer, None until it comes.
        self._answers: Dict[int, Optional[str]] = {}
        #: Of the shims that were forked ahead, by project: the gate, and the number of the question.
        self._gates: Dict[str, Tuple[int, int]] = {}
        #: How many shims this agent has had.
        self.shims = 1
        control.settimeout(_ANSWER_SECONDS)

    def ready(self) -> None:
        """This agent answers; it may be given the work."""
        self._socket.send(b"ready")

    def alive(self) -> None:
        """A sign of life. One that can't be sent is left out: the shim is busy, or gone, and that is seen elsewhere."""
        with contextlib.suppress(OSError):
            self._socket.send(b"alive", socket.MSG_DONTWAIT)

    def fork(self, project: str, number: int, lock: int) -> bool:
        """Have a shim forked that holds the project's lock, output going on in segment `number`.

        False when the agent's shim died, before or after it did that: the lock tells. Busy when it can't.
        """
        with self._turn:
            try:
                answer = self._answer(self._ask(project, number, [lock]))
            except (BrokenPipeError, ConnectionResetError):
                return False
            except OSError as error:
                answer = str(error)
        if answer not in ("ok", ""):
            raise Busy(f"The agent's own shim can't start another one now: {answer}.", "Send the call again.")
        return answer == "ok"

    def fork_ahead(self, project: str, number: int, lock: int) -> None:
        """As `fork`, of a shim that looks at nothing before `open_gate`; whether there is one, the lock tells."""
        reader, gate = os.pipe()
        try:
            with self._turn:
                self._gates[project] = (gate, self._ask(project, number, [lock, reader]))
        except OSError:  # the agent's shim is gone or busy, which is seen when a shim is needed
            os.close(gate)
        finally:
            os.close(reader)

    def open_gate(self, project: str) -> bool:
        """Let the shim that was forked ahead for the project look at its want; False if none was, or it does already."""
        gate, asked = self._gates.pop(project, (-1, 0))
        if gate < 0:
            return False
        os.close(gate)
        with self._turn, contextlib.suppress(OSError):
            return self._answer(asked) == "ok"
        return False

    def _ask(self, project: str, number: int, passed: List[int]) -> int:
        self._asked += 1
        socket.send_fds(self._socket, [f"fork {self._asked} {project} {number}".encode()], passed)
        self._answers[self._asked] = None
        return self._asked

    def _answer(self, asked: int) -> str:
        """What was answered; "" when it is gone, or another one by now."""
        try:
            while self._answers.get(asked, "") is None:
                number, _, answer = self._socket.recv(_MESSAGE_BYTES).decode().partition(" ")
                if not number:  # it is gone
                    return ""
                if int(number) in self._answers:  # else it is the late answer to a question that timed out
                    self._answers[int(number)] = answer
            return self._answers.get(asked) or ""
        finally:
            self._answers.pop(asked, None)

    def wait_for_end(self) -> None:
        """Return once the agent's shim is gone."""
        poll = select.poll()
        poll.register(self._socket, 0)  # POLLHUP is always told
        poll.poll()

    def replace(self, control: socket.socket) -> None:
        """Go on with a new shim."""
        control.settimeout(_ANSWER_SECONDS)
        with self._turn:
            self._socket.close()
            self._socket = control
            self._answers.clear()
            self.shims += 1
            self._turn.notify_all()

    def wait_for_shim(self, number: int) -> None:
        """Return once the agent's shim is its `number`-th, or a later one. Busy when that takes too long."""
        with self._turn:
            if not self._turn.wait_for(lambda: self.shims >= number, _ANSWER_SECONDS):
                raise Busy("The agent's own shim died and is not there again yet.", "Send the call again.")


class Handle:
    """One project's shim, whether it lives or not."""

    def __init__(self, layout: ProjectLayout, control: Control) -> None:
        self.layout = layout
        self._control = control

    @property
    def is_alive(self) -> bool:
        """Whether a shim holds the project's lock."""
        return locks.is_held(self.layout.shim_lock)

    def want(self) -> Optional[Want]:
        """What was wanted last."""
        return read_want(self.layout)

    def record(self) -> Optional[Record]:
        """What the shim wrote last."""
        return read_record(self.layout)

    def change_want(self, change: Callable[[Optional[Want]], Want]) -> Want:
        """Make a new want of the last one, under the next generation, and see that it is carried out.

        It is persisted when this returns, and carried out from a little earlier on: the disk is the slowest of all. What can't
        be begun with or kept now is not to be begun with later, unless it is to end the project: then it is once it can be.
        """
        with locks.hold(self.layout.want_lock):
            last, record = self.want(), self.record()
            generations = (last.generation if last else 0, record.generation if record else 0)
            want = replace(change(last), generation=max(generations) + 1)
            draft_want(self.layout, want)
        try:
            self.see_to_it()
            with locks.hold(self.layout.want_lock):
                settle_want(self.layout)
        except (Busy, OSError):
            if want.up:
                self.take_back(want, last)
            raise
        record = self.record()
        if record is not None and record.shim is not None and "reads_drafts" not in record.shim:
            self.see_to_it()  # it is of an earlier release of the agent
        return want

    def take_back(self, want: Want, last: Optional[Want]) -> None:
        """What was wanted before counts again, unless something else is wanted by now."""
        with locks.hold(self.layout.want_lock):
            now = self.want()
            if now is None or now.generation != want.generation:
                return
            if last is None:
                drafts.remove(self.layout.want)
                forget(self.layout)
            else:
                write_want(self.layout, last)
        if self.is_alive:
            self._poke()

    def persist_want(self) -> None:
        """Write the want again if the disk refused it, or nobody has settled its draft; it goes on standing in for itself if the
        disk still refuses."""
        if is_volatile(self.layout) or drafts.pending(self.layout.want) is not None:
            with locks.hold(self.layout.want_lock):
                want = self.want()
                if want is not None:
                    write_want(self.layout, want)

    def see_to_it(self) -> None:
        """Start a shim if one is needed and there is none; otherwise tell the one there is to look.

        The agent's own is replaced by the agent that watches it, and only told here.
        """
        if self.layout.project == AGENT_PROJECT:
            self._poke()
            return
        if self._control.open_gate(self.layout.project):
            return
        while True:
            shims = self._control.shims
            lock = locks.acquire(self.layout.shim_lock)
            if lock is None:
                self._poke()
                return
            try:
                is_seen_to = not needs_shim(self.want(), self.record())
                if is_seen_to or self._control.fork(self.layout.project, prepare(self.layout), lock):
                    return
            finally:
                os.close(lock)
            self._control.wait_for_shim(shims + 1)

    @contextlib.contextmanager
    def shim_ahead(self) -> Iterator[None]:
        """For the block, which is about to change the want: a shim, if there is nothing for one to do yet, gets ready meanwhile.

        If there is nothing afterwards, either, it is gone.
        """
        is_idle = self.layout.project != AGENT_PROJECT and not needs_shim(self.want(), self.record())
        lock = locks.acquire(self.layout.shim_lock) if is_idle else None
        if lock is not None:
            try:
                self._control.fork_ahead(self.layout.project, prepare(self.layout), lock)
            finally:
                os.close(lock)
        try:
            yield
        finally:
            if self._control.open_gate(self.layout.project):
                deadline = time.monotonic() + _ANSWER_SECONDS
                while self.want() is None and self.is_alive and time.monotonic() < deadline:
                    time.sleep(0.001)

    def _poke(self) -> None:
        record = self.record()
        if record is not None and record.shim is not None:
            # a shim that has not published itself yet reads the want after it does
            for number in (POKE, signals.SIGCONT):  # somebody may have stopped it, as a project can that has no user of its own
                signals.send(record.shim["pid"], record.shim["start_time"], number)

    def wait(self, until: Callable[[Record], bool], seconds: float) -> Optional[Record]:
        """The first record that satisfies `until`; None when there was none in time.

        A shim that dies meanwhile, or that left just before it could hear us, is replaced.
        """
        deadline = time.monotonic() + seconds
        pause, looks, stamp = 0.002, 0, None
        record: Optional[Record] = None
        while True:
            last, stamp = stamp, standin.stamp(self.layout.record)
            if stamp != last or looks % _SURE_LOOKS == 0:
                record = self.record()
            looks += 1
            if record is not None and until(record):
                return record
            if time.monotonic() >= deadline:
                return None
            if not self.is_alive:
                self.see_to_it()
            time.sleep(pause)
            pause = min(0.05, pause * 1.5)
