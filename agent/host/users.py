"""The users of the host, and which folders they may pass through."""

from __future__ import annotations

import functools
import os
import pwd
import stat
from dataclasses import dataclass
from typing import Optional, Tuple


@dataclass(frozen=True)
class User:
    """Who a process runs as: user, primary group and all groups, by number, and the home that programs look for."""

    name: str
    uid: int
    gid: int
    groups: Tuple[int, ...]
    home: str

    def become(self) -> None:
        """Run as this user from now on, for good. OSError when the kernel refuses."""
        os.setgroups(self.groups)
        os.setgid(self.gid)
        os.setuid(self.uid)


def find(name: str) -> Optional[User]:
    """The user of that name (getpwnam(3), getgrouplist(3)); None where there is none."""
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, UnicodeEncodeError):
        return None
    return User(name, entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(name, entry.pw_gid)), entry.pw_dir)


@functools.lru_cache(maxsize=1)
def own() -> User:
    """Who this process runs as, looked up once; a uid without an entry, as containers have, is its own name."""
    uid = os.geteuid()
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return User(str(uid), uid, os.getegid(), (), "/")
    return User(entry.pw_name, uid, os.getegid(), (), entry.pw_dir)


def closed_folder(path: str, user: User) -> Optional[str]:
    """The topmost folder on the way to `path` that the user can't pass (path_resolution(7)); None if all are open."""
    if path != "/":
        above = closed_folder(os.path.dirname(path), user)
        if above is not None:
            return above
    return None if _may_pass(os.stat(path), user) else path


def _may_pass(status: os.stat_result, user: User) -> bool:
    if user.uid == 0:
        return True
    if status.st_uid == user.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid in (user.gid, *user.groups):
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def give(path: str, user: User) -> None:
    """Make the user the owner of a folder and of all that is in it, and of this nothing that is theirs already: the disk may be
    read-only.

    Symlinks are not followed, and a file with further names elsewhere keeps its owner: whoever put it there may have
    meant somebody else's.
    """
    for _, folders, names, folder in os.fwalk(path, follow_symlinks=False):
        for name in (*folders, *names):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if status.st_uid != user.uid and (status.st_nlink == 1 or stat.S_ISDIR(status.st_mode)):
                os.chown(name, user.uid, user.gid, dir_fd=folder, follow_symlinks=False)
    if os.stat(path).st_uid != user.uid:
        os.chown(path, user.uid, user.gid)  # last: who looks at it knows that all of it was given
