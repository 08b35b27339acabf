"""Small files that have to be written even when their disk refuses: it is full, over quota, read-only, or fails.

Such a file then gets a stand-in in the host's memory (/dev/shm, tmpfs(5)), which counts until the disk takes the file again. It
is as good for every process of the host, and lost with a reboot. It only ever stands in for a file that is there, and is older.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Any, Dict, Optional, Tuple

from agent.host import files

#: What a disk refuses with, through no fault of the writer's.
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
#: Everybody may write there, so whose something is gets looked at.
_MEMORY = "/dev/shm"  # noqa: S108


def write_json(path: str, document: Dict[str, Any], is_void_after_boot: bool = False) -> None:
    """As `files.write_json` of what need not be durable, or into the stand-in; OSError when neither can be."""
    try:
        files.write_json(path, document, durable=False, is_void_after_boot=is_void_after_boot)
    except OSError as error:
        put(path, document, error)
        return
    drop(path)


def put(path: str, document: Dict[str, Any], refusal: OSError) -> None:
    """The stand-in, for a write that was refused so; the refusal itself is raised where there can be none."""
    place = _place(path)
    if refusal.errno not in REFUSALS or not os.path.exists(path) or not _make_ours(os.path.dirname(place)):
        raise refusal
    files.write_json(place, document, durable=False)
    modified = os.stat(path).st_mtime_ns
    if os.stat(place).st_mtime_ns < modified:  # the clock went back
        os.utime(place, ns=(modified, modified))


def read_json(path: str) -> Optional[Dict[str, Any]]:
    """As `files.read_json_if_whole`, of the stand-in if there is one."""
    return files.read_json_if_whole(_place(path) if exists(path) else path)


def stamp(path: str) -> Optional[Tuple[int, ...]]:
    """As `files.stamp`, of the stand-in if there is one."""
    return files.stamp(_place(path) if exists(path) else path)


def exists(path: str) -> bool:
    """Whether what counts is in the host's memory only."""
    if not os.access(_base(), os.F_OK):  # as usual
        return False
    try:
        standing_in = os.stat(_place(path))
        return standing_in.st_uid == os.geteuid() and standing_in.st_mtime_ns >= os.stat(path).st_mtime_ns
    except OSError:
        return False


def any_below(folder: str) -> bool:
    """Whether any file below has a stand-in."""
    return os.path.exists(_place(folder))


def drop(path: str) -> None:
    """The file itself counts again, or is gone."""
    place = _place(path)
    with contextlib.suppress(OSError):
        os.unlink(place)
        os.removedirs(os.path.dirname(place))


def _place(path: str) -> str:
    return f"{_base()}{os.path.abspath(path)}"


def _base() -> str:
    return f"{_MEMORY}/ant-host-agent-{os.geteuid()}"


def _make_ours(folder: str) -> bool:
    """Make the folder; False if there is no such memory, or somebody else was there first: everybody may write to it."""
    base = _base()
    try:
        files.make_directory(base)
        found = os.lstat(base)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            return False
        files.make_directory(folder)
    except OSError:
        return False
    return True
