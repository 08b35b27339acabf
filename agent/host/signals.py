"""Signals to a process that is surely the one meant, and the state a fresh program expects."""

from __future__ import annotations

import errno
import os
import signal
from typing import Callable, Iterable, Optional

from agent.host import procfs

SIGSTOP, SIGKILL, SIGCONT = int(signal.SIGSTOP), int(signal.SIGKILL), int(signal.SIGCONT)
#: What a fresh program would inherit as ignored: by Python, by whoever started this process (nohup, a shell's `&`), and by
#: `listen`. Asked once, at import: 64 questions in each forked child cost it 0.7 ms. Handlers are reset by exec itself.
_IGNORED = tuple({n for n in range(1, signal.NSIG) if signal.getsignal(n) is signal.SIG_IGN} | {int(signal.SIGHUP)})


def open_pidfd(pid: int, started: int) -> Optional[int]:
    """A pidfd (pidfd_open(2)) for the process that started then; None when it is gone or the kernel has none (< 5.3).

    The start time is read after opening: from then on the descriptor can't mean another process.
    """
    try:
        fd = os.pidfd_open(pid)
    except (ProcessLookupError, AttributeError):
        return None
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EINVAL, errno.EPERM):
            return None
        raise
    if procfs.is_alive(pid, started):
        return fd
    os.close(fd)
    return None


def send(pid: int, started: int, number: int) -> bool:
    """Signal the process that started then; False when it is gone. Never signals pid <= 1.

    Where there are no pidfds the start time is checked just before kill(2).
    """
    if pid <= 1:
        raise ValueError(f"refusing to signal pid {pid}")
    fd = open_pidfd(pid, started)
    try:
        if fd is not None:
            signal.pidfd_send_signal(fd, number)
        elif procfs.is_alive(pid, started):
            os.kill(pid, number)
        else:
            return False
    except ProcessLookupError:
        return False
    finally:
        if fd is not None:
            os.close(fd)
    return True


def listen(numbers: Iterable[int], note: Callable[[int, object], None]) -> int:
    """Have `note` called for these signals; the descriptor of `wake_by_pipe`. SIGHUP is ignored, nothing is blocked."""
    reader = wake_by_pipe()
    for number in numbers:
        signal.signal(number, note)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return reader


def wake_by_pipe() -> int:
    """From now on each handled signal puts a byte into a pipe; its readable end.

    Whoever polls that descriptor misses no signal, whenever it comes.
    """
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader


def restore_defaults() -> None:
    """In a forked child before exec: every disposition at its default, nothing blocked.

    Python ignores SIGPIPE and SIGXFSZ, and exec passes ignored signals on (signal(7)).
    """
    for number in _IGNORED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
