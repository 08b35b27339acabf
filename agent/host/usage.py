"""What processes use right now: one look at /proc (proc(5), /proc/pid/stat) for any number of trees.

One tree alone is walked down, which costs what it has; that of the whole host costs what the host has, but no more for all of its
projects than for one.
"""

from __future__ import annotations

import contextlib
import os
from typing import Dict, Iterable, List, NamedTuple, Optional

from agent.host.files import read_bytes
from agent.host.prctl import libc

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_READ_BYTES = 4096
_DEAD_STATES = (b"Z", b"X", b"x")


class Use(NamedTuple):
    """Processor time so far in seconds, resident memory in bytes, and how many processes."""

    cpu_seconds: float
    memory_bytes: int
    processes: int


class _Process(NamedTuple):
    session: int
    is_dead: bool
    ticks: int
    start_time: int
    pages: int


class Processes:
    """The host's processes at one moment, looked at when they are first asked for: all, or with `roots` the trees of these."""

    def __init__(self, roots: Optional[Iterable[int]] = None) -> None:
        self._roots = roots
        self._by_pid: Dict[int, _Process] = {}
        self._children: Dict[int, List[int]] = {}

    def _look(self) -> None:
        if self._by_pid:
            return
        proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        try:
            # the kernel may have been built without (CONFIG_PROC_CHILDREN)
            if self._roots is None or not os.path.exists("/proc/thread-self/children"):
                for name in filter(str.isdigit, os.listdir(proc)):
                    self._add(proc, name)
                return
            todo = [str(pid) for pid in self._roots]
            while todo:
                name = todo.pop()
                if int(name) not in self._by_pid and self._add(proc, name):
                    todo += _children(name)
        finally:
            os.close(proc)

    def _add(self, proc: int, name: str) -> bool:
        """Whether there is such a process (still)."""
        data = _read(proc, name + "/stat")
        if not data:
            return False
        fields = data[data.rindex(b")") + 2 :].split(b" ", 22)
        pid = int(name)
        # utime, stime, and those of the children that were waited for
        ticks = int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])
        self._by_pid[pid] = _Process(int(fields[3]), fields[0] in _DEAD_STATES, ticks, int(fields[19]), int(fields[21]))
        self._children.setdefault(int(fields[1]), []).append(pid)
        return True

    def has(self, pid: int, start_time: int) -> bool:
        """Whether the very process that started then was alive."""
        self._look()
        found = self._by_pid.get(pid)
        return found is not None and found.start_time == start_time and not found.is_dead

    def below(self, shim: int) -> List[int]:
        """The children of a shim that are its project's: each run has a session of its own, a turn of the shim has the shim's."""
        self._look()
        return [pid for pid in self._children.get(shim, ()) if self._by_pid[pid].session != shim]

    def use(self, roots: Iterable[int]) -> Use:
        """What the trees of these use together, each process counted once."""
        self._look()
        seen: Dict[int, _Process] = {}
        todo = list(roots)
        while todo:
            pid = todo.pop()
            found = self._by_pid.get(pid)
            if found is not None and pid not in seen:
                seen[pid] = found
                todo += self._children.get(pid, ())
        ticks, pages = sum(p.ticks for p in seen.values()), sum(p.pages for p in seen.values())
        return Use(ticks / _TICKS, pages * _PAGE_BYTES, len(seen))


def _children(name: str) -> List[str]:
    """The pids of the children of all its threads."""
    found: List[str] = []
    with contextlib.suppress(OSError):  # gone meanwhile
        for thread in os.listdir(f"/proc/{name}/task"):
            found += (read_bytes(f"/proc/{name}/task/{thread}/children") or b"").decode().split()
    return found


def _read(proc: int, path: str) -> bytes:
    """The file below /proc; nothing of what is gone."""
    try:
        fd = os.open(path, os.O_RDONLY, dir_fd=proc)
    except OSError:
        return b""
    try:
        return os.read(fd, _READ_BYTES)
    except ProcessLookupError:
        return b""
    finally:
        os.close(fd)


def give_back_memory() -> None:
    """Let the kernel have the pages that C code has freed and that glibc keeps (malloc_trim(3)); other C libraries lack it."""
    with contextlib.suppress(AttributeError):
        libc.malloc_trim(0)
