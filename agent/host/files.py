"""Files that are whole at any instant: temp file → fsync → rename → fsync of the directory.

A rename is atomic for other processes (rename(2)); what survives a power cut is decided by
the fsyncs, so everything that was acknowledged to a caller is written with `durable=True`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from agent import SCHEMA

_READ_BYTES = 1 << 16
_libc = ctypes.CDLL(None, use_errno=True)
#: AT_FDCWD and RENAME_EXCHANGE (renameat2(2)).
_HERE, _EXCHANGE = -100, 2


@dataclass(frozen=True)
class Space:
    """What a file system has left for an unprivileged writer: bytes and inodes (statvfs(3)).

    Some, as btrfs, count no inodes: then `total_inodes` is 0, too.
    """

    free_bytes: int
    total_bytes: int
    free_inodes: int
    total_inodes: int = 0


def write_atomically(path: str, data: bytes, durable: bool = True, mode: int = 0o600, is_void_after_boot: bool = False) -> None:
    """Replace `path` by `data`; at no instant is a part of it to be seen. OSError if the disk refuses.

    What `is_void_after_boot` a power cut may leave empty. It is exchanged, not renamed: behind a rename over a file ext4 starts
    to write to the disk at once (mount option auto_da_alloc, ext4(5)), half a millisecond and a write for each.
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    try:
        try:
            write_all(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        if is_void_after_boot and _exchange(temporary, path):
            os.unlink(temporary)
        else:
            os.rename(temporary, path)
    except OSError:
        remove_if_present(temporary)
        raise
    if durable:
        fsync_directory(os.path.dirname(path))


def _exchange(one: str, other: str) -> bool:
    """Each gets the other's name (renameat2(2)); False where one is absent, or kernel, file system or libc do not know how."""
    exchange = getattr(_libc, "renameat2", None)
    return exchange is not None and exchange(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0


def write_all(fd: int, data: bytes) -> None:
    """write(2) until everything is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_json(path: str, document: Dict[str, Any], durable: bool = True, is_void_after_boot: bool = False) -> None:
    """Replace `path` by the document, as `write_atomically` does."""
    write_atomically(path, json.dumps(document).encode() + b"\n", durable, is_void_after_boot=is_void_after_boot)


def read_bytes(path: str, is_regular: bool = False) -> Optional[bytes]:
    """The whole file, or None where there is none (or, below /proc, no such process any more).

    A short read of a regular one is its last (read(2)).
    """
    try:
        fd = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return None
    parts: List[bytes] = []
    try:
        while True:
            part = os.read(fd, _READ_BYTES)
            parts.append(part)
            if not part or is_regular and len(part) < _READ_BYTES:
                return b"".join(parts)
    except ProcessLookupError:
        return None
    finally:
        os.close(fd)


def read_json(path: str) -> Optional[Dict[str, Any]]:
    """The object in `path`, None where there is no file; ValueError if it is not a JSON object."""
    data = read_bytes(path, is_regular=True)
    if data is None:
        return None
    document = json.loads(data.decode())
    if not isinstance(document, dict):
        raise ValueError(f"{path} holds no JSON object")
    return document


def read_json_if_whole(path: str) -> Optional[Dict[str, Any]]:
    """As `read_json`, of a file that is not synced: None, too, for what a power cut has left of it."""
    try:
        return read_json(path)
    except ValueError:
        return None


def append_line(path: str, document: Dict[str, Any], limit_bytes: int) -> None:
    """Append one JSON line, its `schema` first, as `append` does."""
    append(path, json.dumps({"schema": SCHEMA, **document}).encode() + b"\n", limit_bytes)


def append(path: str, line: bytes, limit_bytes: int) -> None:
    """Append one line. At `limit_bytes` the file becomes `<stem>.1<ext>`, so two files are the cap.

    One write(2) with O_APPEND, so that lines of two writers never mix; of two that find it full, one renames it.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        if os.fstat(fd).st_size >= limit_bytes:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.path.exists(path) and os.path.samestat(os.stat(path), os.fstat(fd)):
                stem, extension = os.path.splitext(path)
                os.rename(path, stem + ".1" + extension)
            following = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            os.close(fd)  # and with it the lock
            fd = following
        end = os.fstat(fd).st_size
        is_torn = end > 0 and os.pread(fd, 1, end - 1) != b"\n"  # by a power cut or a full disk: not to take this one along
        whole = b"\n" * is_torn + line
        if os.write(fd, whole) < len(whole):  # what fits is written, and the rest would fail (write(2))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(fd)


def read_lines(path: str) -> List[Dict[str, Any]]:
    """The JSON lines that `append_line` wrote, oldest first; a line torn by a power cut is left out."""
    stem, extension = os.path.splitext(path)
    data = (read_bytes(stem + ".1" + extension) or b"") + (read_bytes(path) or b"")
    lines = []
    for line in data.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def fsync_directory(path: str) -> None:
    """Make the names in a directory durable (fsync(2): 'also needs an explicit fsync on the directory')."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file_system(path: str) -> None:
    """Put all that was written to the file system of this directory on the disk: one syncfs(2), not an fsync a file."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _libc.syncfs(fd) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    finally:
        os.close(fd)


def swap_symlink(path: str, target: str) -> None:
    """Point the symlink `path` at `target`, atomically and durably."""
    temporary = f"{path}.{os.getpid()}.tmp"
    remove_if_present(temporary)
    os.symlink(target, temporary)
    os.rename(temporary, path)
    fsync_directory(os.path.dirname(path))


def remove_if_present(path: str) -> None:
    """unlink(2) that does not mind an absent file."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def make_directory(path: str, mode: int = 0o700) -> None:
    """mkdir(2) of `path` and its missing parents, whatever the umask; an existing directory is left as it is."""
    if os.path.isdir(path):
        return
    make_directory(os.path.dirname(path), mode)
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return
    os.chmod(path, mode)


def stamp(path: str) -> Optional[Tuple[int, ...]]:
    """What changes when the file does, nearly always: an inode's number and time can both come again within one tick."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def names(path: str) -> List[str]:
    """What is in a directory, sorted; nothing where there is none."""
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []


def free_space(path: str) -> Space:
    """What the file system under `path` has left."""
    status = os.statvfs(path)
    return Space(status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize, status.f_favail, status.f_files)
