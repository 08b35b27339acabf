"""One cgroup v2 a project, where the tree is writable (cgroups(7), kernel's cgroup-v2.rst).

A group knows every process of a project, whoever its parent is by now, and `cgroup.kill`
(Linux 5.14) ends them all at once. Where there is none, the shim does without.
"""

from __future__ import annotations

import os
from typing import List, Optional

from agent.host.files import read_bytes

_FOLDER = "ant-host-agent"


def create(name: str) -> Optional[str]:
    """A group of that name below this process's own; its path, or None where the host does not let us."""
    base = _own_group()
    if base is None:
        return None
    path = f"{base}/{_FOLDER}/{name}"
    try:
        os.makedirs(path, exist_ok=True)
        os.close(os.open(path + "/cgroup.procs", os.O_WRONLY))
    except OSError:
        return None
    return path


def _own_group() -> Optional[str]:
    mount = next((fields[1] for fields in _mounts() if fields[2] == "cgroup2"), None)
    own = (read_bytes("/proc/self/cgroup") or b"").decode(errors="replace").splitlines()
    inside = next((line[3:] for line in own if line.startswith("0::")), None)
    if mount is None or inside is None or "/../" in inside + "/":
        return None
    inside = inside.split(f"/{_FOLDER}/")[0]  # a shim that was started from within a project's group
    return (mount + inside).rstrip("/")


def _mounts() -> List[List[str]]:
    return [line.split() for line in (read_bytes("/proc/self/mounts") or b"").decode(errors="replace").splitlines()]


def enter(path: str, pid: int) -> bool:
    """Move a process into the group; False where that can't be.

    It takes the kernel some 10 ms, so it is done once the process runs: what it forked until then is not in the
    group, and is found by its parents.
    """
    try:
        fd = os.open(path + "/cgroup.procs", os.O_WRONLY)
    except OSError:
        return False
    try:
        os.write(fd, b"%d" % pid)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def members(path: str) -> List[int]:
    """The pids in the group; empty when it is gone."""
    try:
        return [int(line) for line in (read_bytes(path + "/cgroup.procs") or b"").split()]
    except OSError:
        return []


def kill(path: str) -> None:
    """SIGKILL every process in the group, forks under way included; without effect where the kernel is too old."""
    try:
        fd = os.open(path + "/cgroup.kill", os.O_WRONLY)
    except OSError:
        return
    try:
        os.write(fd, b"1")
    finally:
        os.close(fd)


def remove(path: str) -> None:
    """Remove the empty group; one that is in use or gone is left alone."""
    try:
        os.rmdir(path)
    except OSError:
        return
