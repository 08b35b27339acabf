"""The part of a shim that stays: it moves output, reaps, waits, and leaves the thinking to a turn.

For a project each turn runs in a forked child that ends with it (`in_a_fork`), so that the pages that Python writes to
while it thinks are given back: what stays in memory for months is this loop and little else.
That works because a turn remembers nothing: all that a shim knows is in `record.json`. A turn that
fails takes nothing down, either; the output flows on and the next turn tries again.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import time
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from agent.host import signals
from agent.model import MAX_SOCKETS
from agent.shim.capture import Capture
from agent.shim.nursery import Nursery
from agent.shim.record import POKE

#: How soon a turn is tried again that could not be taken (fork refused, or it failed).
_RETRY_SECONDS = 0.5


class Usage(NamedTuple):
    """What a process that ended had used, with those that it waited for (getrusage(2)): its peak of memory, processor time."""

    peak_bytes: int
    cpu_seconds: float


class Seen(NamedTuple):
    """What the resident saw since the last turn: ends as (pid, wait status), whether no child is left at all, …

    `lost_at` is the position in the output at which `lost_bytes` are missing.
    """

    resident: int
    arriving: bool
    leaving: bool
    ended: List[Tuple[int, int]]
    childless: bool
    reader: int
    position: Tuple[int, int]
    lost_bytes: int
    pidfd: int
    usage: Dict[int, Usage]
    lost_at: Tuple[int, int]
    held: Tuple[int, ...] = ()


class Answer(NamedTuple):
    """What a turn wants of the resident: wake it by `due` (monotonic clock; 0 for never) and when `watch` ends.

    `held` are the descriptors of all sockets that it is to hold from now on.
    """

    done: bool = False
    due: float = 0.0
    watch: int = 0
    segment_bytes: int = 10 << 20
    segments: int = 10
    held: Tuple[int, ...] = ()


_ANSWER = struct.Struct("=?dqqq")
_ANSWER_BYTES = 512
#: None when the turn could not be taken; it will be tried again with the same and more.
Turn = Callable[[Seen], Optional[Answer]]


#: What signal handlers noted, for the loop to act upon: the signals' numbers.
_noted: Set[int] = set()


def note(number: int, _frame: object) -> None:
    """The handler of every signal that concerns a shim."""
    if number != signal.SIGCHLD:
        _noted.add(number)


def install_handlers() -> int:
    """Once, in the agent's own shim; the descriptor that wakes it."""
    return signals.listen((signal.SIGCHLD, POKE, signal.SIGTERM, signal.SIGINT), note)


def renew_wake() -> int:
    """In a forked shim: the handlers are inherited, what they noted is not for us, and the wake-up pipe is our own."""
    _noted.clear()
    return signals.wake_by_pipe()


def reside(capture: Capture, wake: int, turn: Turn, nursery: Optional[Nursery] = None) -> None:
    """Serve one project until a turn says that it is done."""
    pidfd, watched, arriving = -1, 0, True
    answer = Answer()
    held: Tuple[int, ...] = ()
    ended: List[Tuple[int, int]] = []
    usage: Dict[int, Usage] = {}
    while True:
        newly_ended, childless = reap(usage)
        ended += newly_ended
        is_due = answer.due > 0.0 and time.monotonic() >= answer.due
        if arriving or ended or is_due or _noted or capture.has_gap or (nursery is not None and nursery.has_news):
            _noted.discard(POKE)  # what remains is the wish to leave, for good
            if not arriving:  # how large a segment may become is not known yet
                capture.drain()
            about_output = (capture.reader, capture.position, capture.lost_bytes)
            about_us = (os.getpid(), arriving, bool(_noted))
            seen = Seen(*about_us, ended, childless, *about_output, pidfd, usage, capture.lost_at, held)
            taken = turn(seen)
            if taken is not None:
                arriving, ended, usage = False, [], {}
                capture.lost_bytes -= about_output[2]
                capture.segment_bytes, capture.segments = taken.segment_bytes, taken.segments
                capture.listen_to_errors()
                for fd in held:
                    os.close(fd)
                held = taken.held
            answer = taken or answer._replace(due=time.monotonic() + _RETRY_SECONDS)
            if answer.done:
                return
            if answer.watch != watched:
                pidfd, watched = _watch(pidfd, answer.watch), answer.watch
        if _wait(capture, wake, pidfd, nursery, answer.due):
            answer = answer._replace(due=time.monotonic())  # the watched process ended


def reap(usage: Dict[int, Usage]) -> Tuple[List[Tuple[int, int]], bool]:
    """What ended, as (pid, wait status), and whether no child is left at all (wait4(2): ECHILD); `usage` gets what they used."""
    ended: List[Tuple[int, int]] = []
    while True:
        try:
            pid, status, used = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return ended, True
        if pid == 0:
            return ended, False
        ended.append((pid, status))
        usage[pid] = Usage(used.ru_maxrss * 1024, used.ru_utime + used.ru_stime)


def _wait(capture: Capture, wake: int, pidfd: int, nursery: Optional[Nursery], due: float) -> bool:
    """Until something happens or is due; whether it was the end of the watched process."""
    poll = select.poll()
    for fd in (*capture.readers, wake, pidfd, *(nursery.fds if nursery is not None else ())):
        if fd >= 0:
            poll.register(fd, select.POLLIN)
    has_ended = False
    beat_due = nursery.beat() if nursery is not None else 0.0
    soonest = min((at for at in (due, beat_due) if at > 0.0), default=0.0)
    milliseconds = max(0, int((soonest - time.monotonic()) * 1000) + 1) if soonest > 0.0 else None
    if POKE in _noted:
        milliseconds = 0
    for fd, _ in poll.poll(milliseconds):
        if fd in capture.readers:
            capture.pump(fd)
        elif fd == wake:
            os.read(wake, 4096)
        elif fd == pidfd:
            has_ended = True
        elif nursery is not None:
            nursery.serve(fd)
    return has_ended


def _watch(pidfd: int, pid: int) -> int:
    """A pidfd of `pid` in place of the last one; -1 where there is none, and then the turn looks by itself."""
    if pidfd >= 0:
        os.close(pidfd)
    try:
        return os.pidfd_open(pid) if pid else -1
    except (OSError, AttributeError):
        return -1


def in_a_fork(turn: Turn, capture: Capture, is_to_end: Callable[[], bool]) -> Turn:
    """The same turn, taken in a child process that ends with it, while the output flows on.

    Where the host gives no further process, what fills its table may be the very project that `is_to_end`: then it is taken here.
    """

    def take(seen: Seen) -> Optional[Answer]:
        answered = ask_a_fork(lambda: _packed(turn(seen)), capture)
        if answered is None:
            return _take_here(turn, seen) if is_to_end() else None
        data, held = answered
        return Answer._make((*_ANSWER.unpack(data), tuple(held))) if data else None

    return take


def _take_here(turn: Turn, seen: Seen) -> Optional[Answer]:
    try:
        answer = turn(seen)
    except Exception:  # the turn has told of it where it is looked for; the shim has to outlive it
        return None
    return answer._replace(held=tuple(map(os.dup, answer.held))) if answer is not None else None


def _packed(answer: Optional[Answer]) -> Tuple[bytes, Sequence[int]]:
    assert answer is not None
    return _ANSWER.pack(*answer[:-1]), answer.held


def ask_a_fork(
    question: Callable[[], Tuple[bytes, Sequence[int]]], capture: Capture
) -> Optional[Tuple[bytes, List[int]]]:  # fmt: skip
    """The few bytes and the descriptors that `question` gives, called in a child process; none when that failed.

    None when the host gives no further process (fork(2): EAGAIN, ENOMEM), which is its trouble, and not for ever. Until
    they come the output is moved on: a turn may wait for the kernel (10 ms for a control group) or for a slow disk.
    """
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with reader, writer:
        try:
            pid = os.fork()
        except OSError:
            return None
        if pid == 0:
            try:
                data, passed = question()
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"={len(passed)}i", *passed))] if passed else []
                writer.sendmsg([data], rights)
            finally:
                os._exit(0)
        writer.close()
        capture.pump_until(reader.fileno())
        data, ancillary, _, _ = reader.recvmsg(_ANSWER_BYTES, socket.CMSG_SPACE(4 * MAX_SOCKETS), socket.MSG_CMSG_CLOEXEC)
    received = [fd for _, _, fds in ancillary for fd in struct.unpack(f"={len(fds) // 4}i", fds)]
    os.waitpid(pid, 0)
    return data, received
