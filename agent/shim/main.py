"""A shim's beginning and end: the agent's own by exec, a project's by a fork of that one."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from typing import Any, List, NoReturn, Optional, Tuple

from agent.errors import EXIT_AGENT_FAULT, EXIT_OK
from agent.host import cgroups, clock, files
from agent.host.notify import Notifier
from agent.host.prctl import set_subreaper, set_title
from agent.model import AGENT_PROJECT
from agent.shim import machine
from agent.shim.agent_turn import AgentTurn
from agent.shim.capture import Capture
from agent.shim.nursery import Nursery
from agent.shim.overlap import ProjectTurn
from agent.shim.record import read_record, read_want
from agent.shim.rehearsal import get_ready
from agent.shim.resident import Answer, Seen, in_a_fork, install_handlers, renew_wake, reside
from agent.store.layout import ProjectLayout, StoreLayout
from agent.store.segments import EVENTS_BYTES, STORE_EVENTS_BYTES, prepare


def main(arguments: List[str]) -> int:
    """`shim STORE [detach] NAME=FD…`: the agent's own shim.

    Passed to it are `lock`, and what was held before: `http`, `control`. With `detach` it was started by
    the agent, and must not be its child, or stopping the agent would stop this, too.
    """
    store, words = StoreLayout(arguments[0]), arguments[1:]
    if words[:1] == ["detach"] and os.fork():
        os._exit(EXIT_OK)
    passed = {name: int(fd) for name, equals, fd in (word.partition("=") for word in words) if equals}
    for fd in passed.values():
        os.set_inheritable(fd, False)
    notifier = Notifier.of(os.environ)
    os.environ.clear()
    os.chdir("/")
    set_subreaper()
    layout = store.project(AGENT_PROJECT)
    cgroups.own_group()  # what of it stays the same is known to all that are forked
    nursery = Nursery(store, passed, run_project, notifier)
    capture = Capture(layout, prepare(layout))
    wake = install_handlers()
    signal.signal(signal.SIGHUP, nursery.hang_up)

    def take(values: Tuple[Any, ...]) -> Optional[Answer]:
        seen = Seen._make(values)
        answer = _take_own_turn(layout, seen, nursery)
        if seen.arriving:  # the agent is starting now: time to get ready for what it will ask
            get_ready(layout)
        return answer

    reside(capture, wake, take, nursery)
    record = read_record(layout)
    if record is not None and record.state == machine.FAILED:
        sys.stderr.write(f"ant-host-agent: {record.explanation}\n  Its output is in {layout.logs}\n")
        return EXIT_AGENT_FAULT
    return EXIT_OK


def run_project(store: StoreLayout, project: str, number: int, gate: int = -1) -> NoReturn:
    """In a child forked for it: be that project's shim, output going on in segment `number`. Never returns.

    What is to be done is not looked at before the `gate`, if there is one, has come to its end.
    """
    layout = store.project(project)
    try:
        os.setsid()
        wake = renew_wake()
        set_subreaper()
        set_title(b"ant-host-agent shim " + project.encode())
        capture = Capture(layout, number)
        turn = in_a_fork(lambda seen: _take_turn(layout, seen, gate, wake), capture, lambda: _is_to_end(layout))
        reside(capture, wake, turn)
        os._exit(EXIT_OK)
    finally:
        os._exit(EXIT_AGENT_FAULT)


def _is_to_end(layout: ProjectLayout) -> bool:
    with contextlib.suppress(ValueError, OSError):  # the turn tells of that
        want = read_want(layout)
        return want is not None and not want.up
    return False


def _take_turn(layout: ProjectLayout, seen: Seen, gate: int, wake: int) -> Answer:
    """A turn whose failure is told where the project's operator looks: in its events."""
    if seen.childless and _is_gone(layout, seen):
        return Answer(done=True)  # there is nothing left to look after
    try:
        _require_folder(layout, seen)
        turn = ProjectTurn(layout, seen)
        turn.wait = lambda: _wait_at(gate, wake)
        return turn.take()
    except Exception as error:
        _tell_of_failure(layout, seen, error)
        raise


def _is_gone(layout: ProjectLayout, seen: Seen) -> bool:
    """Whether this shim's project was purged; what is there may be another of its name, with a shim and a FIFO of its own."""
    try:
        return not os.path.samestat(os.stat(layout.fifo), os.fstat(seen.reader))
    except FileNotFoundError:
        return not os.path.isdir(layout.root)


def _wait_at(gate: int, wake: int) -> None:
    """Until the agent opens the gate, or is gone; or somebody pokes the shim, which the pipe tells that all signals come by."""
    if gate < 0:
        return
    poll = select.poll()
    for fd in (gate, wake):
        poll.register(fd, select.POLLIN)
    poll.poll()


def _take_own_turn(layout: ProjectLayout, seen: Seen, nursery: Nursery) -> Optional[Answer]:
    """The same in this very process, which must outlive it: the agent may just have died, and nobody else holds the socket."""
    try:
        _require_folder(layout, seen)
        return AgentTurn(layout, seen, nursery).take()
    except Exception as error:
        _tell_of_failure(layout, seen, error)
        return None


def _require_folder(layout: ProjectLayout, seen: Seen) -> None:
    """Without it nothing would be on record and nothing wanted, and what runs would be left alone."""
    if not seen.leaving and not os.path.isdir(layout.root):
        raise FileNotFoundError(f"{layout.root} was deleted")


def _tell_of_failure(layout: ProjectLayout, seen: Seen, failure: Exception) -> None:
    """Once, however often it is tried again: in the project's events, or where those can't be, in those of the store."""
    if seen.tries:
        return
    import traceback  # only here: a shim does without

    told = {"at": clock.timestamp(), "event": "shim_failed"}
    try:
        files.append_line(layout.events, {**told, "traceback": traceback.format_exc()}, EVENTS_BYTES)
    except OSError:
        with contextlib.suppress(OSError):
            line = {**told, "project": layout.project, "reason": f"what runs runs on, without its shim: {failure}"}
            files.append_line(layout.store.events, line, STORE_EVENTS_BYTES)
