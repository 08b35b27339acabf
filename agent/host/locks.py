"""Open-file-description locks (fcntl(2), F_OFD_SETLK).

The lock belongs to the open file description: it passes through fork, exec and SCM_RIGHTS, and
the kernel drops it with the last copy of the descriptor, so there is no stale lock. Asking
(F_OFD_GETLK) takes nothing and disturbs nobody. The store must be on a local file system.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from typing import Iterator, Optional

from agent.host import standin

# struct flock with 64-bit offsets, in the platform's own alignment: l_type l_whence l_start l_len l_pid
_FLOCK = "@hhqqi"


def acquire(path: str) -> Optional[int]:
    """Take the write lock: a descriptor that holds it (close-on-exec), or None when another holds it.

    FileNotFoundError when there is no directory for it (any more).
    """
    try:
        return _lock(path, fcntl.F_OFD_SETLK)
    except OSError as error:
        if error.errno not in standin.REFUSALS or not os.path.exists(path):
            raise
        return _lock_to_read(path, fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.F_OFD_SETLK)


@contextlib.contextmanager
def hold(path: str) -> Iterator[None]:
    """Wait for the write lock and keep it for the block; meant for moments, not for work. FileNotFoundError as above."""
    try:
        fd = _lock(path, fcntl.F_OFD_SETLKW)
    except OSError as error:
        if error.errno not in standin.REFUSALS or not os.path.exists(path):
            raise
        fd = _lock_to_read(path, fcntl.LOCK_EX, fcntl.F_OFD_SETLKW)
    assert fd is not None
    try:
        yield
    finally:
        os.close(fd)


def _lock(path: str, command: int) -> Optional[int]:
    """The lock of the file that is at `path` once it is taken: one that was moved away meanwhile keeps nobody out."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.fcntl(fd, command, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd
        except FileNotFoundError:  # it was moved just now: the next open tells whether for good
            pass
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return None
            raise
        os.close(fd)


def _lock_to_read(path: str, flock: int, command: int) -> Optional[int]:
    """Where the disk does not let us write, as one that is read-only: a read lock, for which reading is enough, and which keeps
    every writer out, now and once the disk is repaired; flock(2)'s keeps out whoever does the same."""
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, flock)
        fcntl.fcntl(fd, command, struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
        return fd
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return None
        raise


def is_held(path: str) -> bool:
    """Whether somebody holds the lock now; an absent file is a free lock."""
    try:
        fd = os.open(path, os.O_RDONLY)  # asking takes no right to write, and the disk may be read-only
    except FileNotFoundError:
        return False
    try:
        query = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, query)
    finally:
        os.close(fd)
    return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)
