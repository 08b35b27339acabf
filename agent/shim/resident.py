"""The part of a shim that stays: it moves output, reaps, waits, and leaves the thinking to a turn.

For a project each turn runs in a forked child that ends with it (`in_a_fork`), so that the pages that Python writes to
while it thinks are given back: what stays in memory for months is this loop and little else.
That works because a turn remembers nothing: all that a shim knows is in `record.json`. A turn that
fails takes nothing down, either; the output flows on and the next turn tries again.

Each distinct function, method, module or constant that this loop touches costs a project's shim a page of memory, since
Python counts references in the object itself, and so writes to what it only reads. Hence plain tuples here
(the turn makes a `Seen` of one), plain attributes, integers in place of enumerations, `_socket` in place of `socket`.
"""

from __future__ import annotations

import _socket
import os
import select
import signal
import struct
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from agent.host.signals import listen, wake_by_pipe
from agent.model import MAX_SOCKETS
from agent.shim.capture import Capture
from agent.shim.nursery import Nursery
from agent.shim.record import POKE

#: How soon a turn is tried again that could not be taken (fork refused, or it failed), and at most: it doubles.
_RETRY_SECONDS, _RETRY_MOST_SECONDS = 0.5, 8.0


class Usage(NamedTuple):
    """What a process that ended had used, with those that it waited for (getrusage(2)): its peak of memory, processor time."""

    peak_bytes: int
    cpu_seconds: float


class Seen(NamedTuple):
    """What the resident saw since the last turn: ends as (pid, wait status), whether no child is left at all, …

    `lost_at` is the position in the output at which `lost_bytes` are missing. `tries`: how often this turn has failed already.
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
    tries: int = 0


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
_RIGHTS_BYTES = _socket.CMSG_SPACE(4 * MAX_SOCKETS)
_UNIX, _SEQPACKET, _CLOEXEC = int(_socket.AF_UNIX), int(_socket.SOCK_SEQPACKET), int(_socket.MSG_CMSG_CLOEXEC)
_CHILD_ENDED = int(signal.SIGCHLD)
_ANY, _LOOK = os.P_ALL, os.WEXITED | os.WNOHANG | os.WNOWAIT
#: One turn: what was seen, in the order of `Seen`, and what it answers, in that of `Answer`. None when the turn could not
#: be taken; it will be tried again with the same and more.
Turn = Callable[[Tuple[Any, ...]], Optional[Tuple[Any, ...]]]
Reap = Callable[[Dict[int, Usage]], Tuple[List[Tuple[int, int]], bool]]


#: What signal handlers noted, for the loop to act upon: the signals' numbers.
_noted: Set[int] = set()


def note(number: int, _frame: object) -> None:
    """The handler of every signal that concerns a shim."""
    if number != _CHILD_ENDED:
        _noted.add(number)


def install_handlers() -> int:
    """Once, in the agent's own shim; the descriptor that wakes it."""
    return listen((signal.SIGCHLD, POKE, signal.SIGTERM, signal.SIGINT), note)


def renew_wake() -> int:
    """In a forked shim: the handlers are inherited, what they noted is not for us, and the wake-up pipe is our own."""
    _noted.clear()
    return wake_by_pipe()


def reap(usage: Dict[int, Usage]) -> Tuple[List[Tuple[int, int]], bool]:
    """What ended, as (pid, wait status), and whether no child is left at all (wait4(2): ECHILD); `usage` gets what they used."""
    ended: List[Tuple[int, int]] = []
    try:
        # first a look, for nothing (waitid(2)): os.wait4 imports a module and makes a struct also where nobody has ended
        while os.waitid(_ANY, 0, _LOOK) is not None:
            pid, status, used = os.wait4(-1, os.WNOHANG)
            ended.append((pid, status))
            usage[pid] = Usage(used.ru_maxrss * 1024, used.ru_utime + used.ru_stime)
    except ChildProcessError:
        return ended, True
    return ended, False


def reside(capture: Capture, wake: int, turn: Turn, nursery: Optional[Nursery] = None, reap: Reap = reap) -> None:
    """Serve one project until a turn says that it is done."""
    pidfd, watched, arriving, tries, due = -1, 0, True, 0, 0.0
    held: Tuple[int, ...] = ()
    ended: List[Tuple[int, int]] = []
    usage: Dict[int, Usage] = {}
    while True:
        newly_ended, childless = reap(usage)
        ended += newly_ended
        is_due = due > 0.0 and time.monotonic() >= due
        has_news = arriving or ended or _noted or capture.has_gap() or (nursery is not None and nursery.has_news)
        # news are what a turn that failed was about: it is not taken again before it is due, unless somebody asks for it
        if is_due or (has_news and not tries) or POKE in _noted:
            if nursery is not None:
                nursery.has_news = False
            _noted.discard(POKE)  # what remains is the wish to leave, for good
            if not arriving:  # how large a segment may become is not known yet
                capture.drain()
            about_us, position, lost_bytes = (os.getpid(), arriving, bool(_noted)), capture.position(), capture.lost_bytes
            about_output = (capture.reader, position, lost_bytes, pidfd, usage, capture.lost_at)
            taken = turn((*about_us, ended, childless, *about_output, held, tries))
            if taken is None:
                due = time.monotonic() + min(_RETRY_MOST_SECONDS, _RETRY_SECONDS * 2**tries)
                tries += 1
            else:
                arriving, tries, ended, usage = False, 0, [], {}
                for fd in held:
                    os.close(fd)
                done, due, watch, capture.segment_bytes, capture.segments, held = taken
                capture.lost_bytes -= lost_bytes
                capture.listen_to_errors()
                if done:
                    return
                if watch != watched:
                    pidfd, watched = _watch(pidfd, watch), watch
        if _wait(capture, wake, -1 if tries else pidfd, nursery, due, POKE in _noted):
            due = time.monotonic()  # the watched process ended


def _wait(capture: Capture, wake: int, pidfd: int, nursery: Optional[Nursery], due: float, is_poked: bool) -> bool:
    """Until something happens or is due; whether it was the end of the watched process."""
    poll = select.poll()
    for fd in (*capture.readers, wake, pidfd, *(nursery.fds if nursery is not None else ())):
        if fd >= 0:
            poll.register(fd, select.POLLIN)
    has_ended = False
    beat_due = nursery.beat() if nursery is not None else 0.0
    soonest = beat_due if due <= 0.0 or 0.0 < beat_due < due else due
    milliseconds = max(0, int((soonest - time.monotonic()) * 1000) + 1) if soonest > 0.0 else None
    if is_poked:
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


def in_a_fork(turn: Callable[[Seen], Answer], capture: Capture, is_to_end: Callable[[], bool]) -> Turn:
    """The same turn, taken in a child process that ends with it, while the output flows on.

    Until the answer comes, with the descriptors that it holds, the output is moved on: a turn may wait for the kernel
    (10 ms for a control group) or for a slow disk. Where the host gives no further process (fork(2): EAGAIN, ENOMEM), what
    fills its table may be the very project that `is_to_end`: then it is taken here.
    """

    def take(seen: Tuple[Any, ...]) -> Optional[Tuple[Any, ...]]:
        reader, writer = _socket.socketpair(_UNIX, _SEQPACKET)
        try:
            pid = os.fork()
        except OSError:
            reader.close()
            writer.close()
            return _take_here(turn, Seen._make(seen)) if is_to_end() else None
        if pid == 0:
            try:
                _answer(writer, turn(Seen._make(seen)))
            finally:
                os._exit(0)
        writer.close()
        capture.pump_until(reader.fileno())
        data, rights, _, _ = reader.recvmsg(_ANSWER_BYTES, _RIGHTS_BYTES, _CLOEXEC)
        reader.close()
        held: Tuple[int, ...] = struct.unpack(f"={len(rights[0][2]) // 4}i", rights[0][2]) if rights else ()
        os.waitpid(pid, 0)
        return (*_ANSWER.unpack(data), held) if data else None

    return take


def _take_here(turn: Callable[[Seen], Answer], seen: Seen) -> Optional[Answer]:
    try:
        answer = turn(seen)
    except Exception:  # the turn has told of it where it is looked for; the shim has to outlive it
        return None
    return answer._replace(held=tuple(map(os.dup, answer.held)))


def _answer(writer: _socket.socket, answer: Answer) -> None:
    """In the fork: a few bytes, and the descriptors of what is to be held (unix(7), SCM_RIGHTS)."""
    held = struct.pack(f"={len(answer.held)}i", *answer.held)
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, held)] if held else []
    writer.sendmsg([_ANSWER.pack(*answer[:-1])], rights)
