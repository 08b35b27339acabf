"""One cgroup v2 a project, where the tree is writable (cgroups(7), kernel's cgroup-v2.rst).

A group knows every process of a project, whoever its parent is by now, and `cgroup.kill`
(Linux 5.14) ends them all at once. Where there is none, the shim does without; limits then can't be enforced.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import struct
from typing import Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from agent.host.files import read_bytes

_FOLDER = "ant-host-agent"
#: Our own processes, once they have to leave the group that the host gave us; no project's group has such a name.
_OURSELVES = "self"
#: Of what a limit needs, what a kernel may lack (no swap).
_OPTIONAL = ("memory.swap.max", "memory.oom.group")
_MOVES = 10
#: clone3(2), Linux 5.7, the same on every architecture; the call keeps Python's lock, which the child has to have.
_CLONE3, _INTO_CGROUP = 435, 1 << 33
_CLONE_ARGUMENTS = struct.Struct("=11Q")
_syscall = ctypes.PyDLL(None).syscall
_syscall.restype = ctypes.c_long


def path_of(name: str) -> Optional[str]:
    """Where the group of that name is, if there is one; None where the host does not let us have any."""
    base = own_group()
    return f"{base}/{_FOLDER}/{name}" if base is not None else None


def create(name: str, settings: Optional[Dict[str, str]] = None) -> Optional[str]:
    """A group of that name below this process's own, with these `settings`; its path, or None where the host does not let us."""
    path = path_of(name)
    if path is None:
        return None
    try:
        os.makedirs(path, exist_ok=True)
        os.close(os.open(path + "/cgroup.procs", os.O_WRONLY))
    except OSError:
        return None
    for file, text in (settings or {}).items():
        if not _write(f"{path}/{file}", text) and file not in _OPTIONAL:
            return None
    return path


def offers(controller: str) -> bool:
    """Whether the group that the host gave us has this controller."""
    base = own_group()
    return base is not None and controller in _words(base + "/cgroup.controllers")


def enable(controllers: Sequence[str], ours: Callable[[], Iterable[int]]) -> List[str]:
    """Have these controllers work in the projects' groups; those that the host does not let us have.

    A group with processes can't hand on controllers ("no internal processes", cgroups(7)), so `ours` are moved into a group
    below. Others are never moved: the group then is not ours alone.
    """
    base = own_group()
    if base is None or _is_refilled(base):
        return list(controllers)
    lacking = [controller for controller in controllers if controller not in _words(base + "/cgroup.controllers")]
    try:
        os.makedirs(f"{base}/{_FOLDER}/{_OURSELVES}", exist_ok=True)
    except OSError:
        return list(controllers)
    wanted = [controller for controller in controllers if controller not in lacking]
    for group in (base, f"{base}/{_FOLDER}"):
        wanted = [controller for controller in wanted if _hand_on(group, controller, base, ours)]
    return [controller for controller in controllers if controller not in wanted]


def _hand_on(group: str, controller: str, base: str, ours: Callable[[], Iterable[int]]) -> bool:
    file = group + "/cgroup.subtree_control"
    for _ in range(_MOVES):  # while one moves, another forks
        if controller in _words(file) or _write(file, "+" + controller):
            return True
        inside = members(group)
        movable = set(ours()).intersection(inside)
        if not movable or set(inside) - movable:
            return False
        for pid in movable:
            enter(f"{base}/{_FOLDER}/{_OURSELVES}", pid)
    return False


def oom_kills(path: str) -> int:
    """How many processes of the group the kernel has killed for memory; 0 where it does not say."""
    words = _words(path + "/memory.events")
    return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0


def usage(path: str) -> Dict[str, int]:
    """What the kernel says of the group, where it does: `peak_bytes` (Linux 5.19), `limit_bytes`, `cpu_microseconds`."""
    words = _words(path + "/cpu.stat")
    found = {
        "peak_bytes": _words(path + "/memory.peak"), "limit_bytes": _words(path + "/memory.max"),
        "cpu_microseconds": words[words.index("usage_usec") + 1 :] if "usage_usec" in words else [],
    }  # fmt: skip
    return {name: int(first) for name, (first, *_) in ((name, text or ("",)) for name, text in found.items()) if first.isdigit()}


def own_group() -> Optional[str]:
    """The group below which ours are made, as a path; None where there is no cgroup v2, or it is another namespace's.

    It is the one that the host gave us. But systemd starts a service's main process right in the service's own group, which the
    kernel refuses as long as groups below have controllers: a restart would fail until the last project with a limit is gone.
    So root's groups are at the top of the tree instead, where systemd leaves alone what it has not made.
    """
    mount = _mount()
    own = (read_bytes("/proc/self/cgroup") or b"").decode(errors="replace").splitlines()
    inside = next((line[3:] for line in own if line.startswith("0::")), None)
    if mount is None or inside is None or "/../" in inside + "/":
        return None
    inside = inside.split(f"/{_FOLDER}/")[0]  # a shim that was started from within a project's group
    service, _, last = inside.rpartition("/")
    if last == _OURSELVES and service.endswith(".service"):  # DelegateSubgroup= in our unit
        inside = service
    if inside.endswith(".service") and os.access(mount + "/cgroup.subtree_control", os.W_OK):
        inside = ""
    return (mount + inside).rstrip("/")


def _is_refilled(base: str) -> bool:
    """Whether systemd will start our main process in this very group (before its version 254, which knows DelegateSubgroup=)."""
    return base.endswith(".service") and not os.path.isdir(f"{base}/{_OURSELVES}")


@functools.lru_cache(maxsize=1)
def _mount() -> Optional[str]:
    """Where the tree is. Asked once: the kernel lists all mounts of the host, and each start of a run needs it."""
    mounts = (line.split() for line in (read_bytes("/proc/self/mounts") or b"").decode(errors="replace").splitlines())
    return next((fields[1] for fields in mounts if fields[2] == "cgroup2"), None)


def fork(group: Optional[str]) -> Tuple[int, bool]:
    """fork(2) of a process with one thread, as (pid, whether the child was born in the group). OSError if there can be no fork.

    A child that was is to execute a program and not much else: what Python does for itself after a fork is not done for it.
    """
    if group is not None:
        with contextlib.suppress(OSError):
            folder = os.open(group, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                arguments = _CLONE_ARGUMENTS.pack(_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, folder)
                pid = _syscall(ctypes.c_long(_CLONE3), arguments, ctypes.c_long(len(arguments)))
            finally:
                os.close(folder)
            if pid >= 0:
                return pid, True
    return os.fork(), False


def enter(path: str, pid: int) -> bool:
    """Move a process (0: this one) into the group; False where that can't be.

    It takes the kernel some 10 ms, in which nobody on the host can fork, so `fork` comes first. Where that can't be, and without
    limits, it is done once the process runs: what it forked until then is not in the group, and is found by its parents.
    """
    return _write(path + "/cgroup.procs", str(pid))


def _write(file: str, text: str) -> bool:
    """Whether the kernel took it."""
    try:
        fd = os.open(file, os.O_WRONLY)
    except OSError:
        return False
    try:
        os.write(fd, text.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _words(file: str) -> List[str]:
    try:
        return (read_bytes(file) or b"").decode().split()
    except OSError:
        return []


def members(path: str) -> List[int]:
    """The pids in the group; empty when it is gone."""
    try:
        return [int(line) for line in (read_bytes(path + "/cgroup.procs") or b"").split()]
    except OSError:
        return []


def kill(path: str) -> None:
    """SIGKILL every process in the group, forks under way included; without effect where the kernel is too old."""
    _write(path + "/cgroup.kill", "1")


def remove(path: str) -> None:
    """Remove the empty group; one that is in use or gone is left alone."""
    try:
        os.rmdir(path)
    except OSError:
        return
