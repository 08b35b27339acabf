"""A project's secrets: a file each, for the project's user alone. No value is ever read back.

The folder may belong to the project's own user, who may put there what they like. So a value is written in staging, where nobody
else comes, and moved in through a descriptor of the folder: no link is followed, no file of the project's is opened.
"""

from __future__ import annotations

import os
import stat
from typing import List

from agent.errors import Conflict, MalformedRequest
from agent.host import files
from agent.model import parse_secret_name
from agent.store import staging
from agent.store.layout import ProjectLayout

#: The most secrets of a project.
MOST = 1000
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def names(layout: ProjectLayout) -> List[str]:
    """The names of the secrets there are, sorted."""
    return [name for name in files.names(layout.secrets) if _is_one(f"{layout.secrets}/{name}", name)]


def put(layout: ProjectLayout, name: str, value: bytes) -> bool:
    """Set a secret, durably; whether there was none of that name. Conflict for what is in its way, OSError from the disk."""
    files.make_directory(layout.secrets)
    present = files.names(layout.secrets)
    if name not in present and len(present) >= MOST:
        raise Conflict(f"{layout.project} has {MOST} secrets, which is the limit.", "Delete one.", project=layout.project)
    temporary = staging.new_path(layout.store, ".secret")
    folder = os.open(layout.secrets, _OPEN_FOLDER)
    try:
        _write(temporary, value, os.fstat(folder))
        os.rename(temporary, name, dst_dir_fd=folder)
        os.fsync(folder)
    except IsADirectoryError:
        raise Conflict(
            f"{name}: the project has a folder of that name among its secrets.", "Remove it, or choose another name.",
            project=layout.project,
        ) from None  # fmt: skip
    finally:
        files.remove_if_present(temporary)
        os.close(folder)
    return name not in present


def delete(layout: ProjectLayout, name: str) -> bool:
    """Remove a secret, durably; False when there was none of that name."""
    if name not in names(layout):
        return False
    files.remove_if_present(f"{layout.secrets}/{name}")
    files.fsync_directory(layout.secrets)
    return True


def _is_one(path: str, name: str) -> bool:
    try:
        return parse_secret_name(name) == name and stat.S_ISREG(os.lstat(path).st_mode)
    except (MalformedRequest, FileNotFoundError):
        return False


def _write(path: str, value: bytes, folder: os.stat_result) -> None:
    """A new file (0600) of the user to whom the folder belongs."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        files.write_all(fd, value)
        os.fchmod(fd, 0o600)
        if os.geteuid() == 0:
            os.fchown(fd, folder.st_uid, folder.st_gid)
        os.fsync(fd)
    finally:
        os.close(fd)
