"""What prctl(2) offers and Python does not."""

from __future__ import annotations

import ctypes
import os

from agent.host.files import read_bytes

_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
#: Looked up once, at import: a forked shim shares these pages instead of making its own.
_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl


def set_subreaper() -> None:
    """Escapees of this process's tree become its children instead of init's. OSError where the kernel refuses."""
    if _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "PR_SET_CHILD_SUBREAPER")


def set_title(title: str) -> None:
    """What ps shows for this process: its name (15 bytes) and, over the old arguments' memory, its command line.

    A forked shim would otherwise show its parent's command line (proc(5): arg_start, arg_end are fields 48, 49 of stat).
    """
    _prctl(_PR_SET_NAME, title.encode()[:15], 0, 0, 0)
    fields = (read_bytes("/proc/self/stat") or b"").rpartition(b")")[2].split()
    begin, end = int(fields[45]), int(fields[46])
    if 0 < begin < end:
        ctypes.memmove(begin, title.encode()[: end - begin - 1].ljust(end - begin, b"\0"), end - begin)
