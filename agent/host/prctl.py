"""What prctl(2) offers and Python does not."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Tuple

from agent.host.files import read_bytes

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
#: Looked up once, at import: a forked shim shares these pages instead of making its own.
libc = ctypes.CDLL(None, use_errno=True)
_prctl = libc.prctl
_memmove = ctypes.memmove


def set_subreaper() -> None:
    """Escapees of this process's tree become its children instead of init's. OSError where the kernel refuses."""
    _set(_PR_SET_CHILD_SUBREAPER, 1, "PR_SET_CHILD_SUBREAPER")


def set_no_new_privs() -> None:
    """From now on no exec gives this process or its children more rights: setuid bits and file capabilities do nothing."""
    _set(_PR_SET_NO_NEW_PRIVS, 1, "PR_SET_NO_NEW_PRIVS")


def end_with_parent() -> None:
    """SIGKILL for this process as soon as the thread that forked it ends."""
    _set(_PR_SET_PDEATHSIG, signal.SIGKILL, "PR_SET_PDEATHSIG")


def _set(option: int, value: int, name: str) -> None:
    if _prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def _argument_memory() -> Tuple[int, int]:
    """Where the arguments of this process lie: begin and length (proc(5): fields 48 and 49 of stat)."""
    fields = (read_bytes("/proc/self/stat") or b"").rpartition(b")")[2].split()
    return int(fields[45]), int(fields[46]) - int(fields[45])


# At import, in the process whose forks will overwrite it.
_ARGUMENTS, _ARGUMENTS_BYTES = _argument_memory()


def set_title(title: bytes) -> None:
    """What ps shows for this process: its name (15 bytes) and, over the old arguments' memory, its command line.

    A forked shim would otherwise show its parent's command line.
    """
    _prctl(_PR_SET_NAME, title[:15], 0, 0, 0)
    if _ARGUMENTS > 0 and _ARGUMENTS_BYTES > 0:
        _memmove(_ARGUMENTS, title[: _ARGUMENTS_BYTES - 1] + bytes(_ARGUMENTS_BYTES), _ARGUMENTS_BYTES)
