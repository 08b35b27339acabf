"""A descriptor of another process, by pidfd_getfd(2) (Linux 5.6), which Python does not offer.

It needs the right to trace that process (ptrace(2), "Ptrace access mode checking"): root has it, its own user has it where
kernel.yama.ptrace_scope is 0.
"""

from __future__ import annotations

import ctypes
import os

from agent.host.prctl import libc

#: The number on every architecture but Alpha and MIPS, where this fails with ENOSYS.
_PIDFD_GETFD = 438


def take_descriptor(pid: int, fd: int) -> int:
    """Our own copy (close-on-exec) of what `pid` has open as `fd`. OSError where the kernel does not allow it or can't."""
    pidfd = os.pidfd_open(pid)
    try:
        copy: int = libc.syscall(ctypes.c_long(_PIDFD_GETFD), pidfd, fd, 0)
    finally:
        os.close(pidfd)
    if copy < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return copy
