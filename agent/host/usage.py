"""What processes use right now: one look at /proc (proc(5), /proc/pid/stat) for any number of trees."""

from __future__ import annotations

import os
from typing import Dict, Iterable, List, NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_READ_BYTES = 4096


class Use(NamedTuple):
    """Processor time so far in seconds, resident memory in bytes, and how many processes."""

    cpu_seconds: float
    memory_bytes: int
    processes: int


class _Process(NamedTuple):
    session: int
    ticks: int
    pages: int


class Processes:
    """All processes of the host at one moment."""

    def __init__(self) -> None:
        self._by_pid: Dict[int, _Process] = {}
        self._children: Dict[int, List[int]] = {}
        proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in os.listdir(proc):
                if name.isdigit():
                    self._look(proc, name)
        finally:
            os.close(proc)

    def _look(self, proc: int, name: str) -> None:
        try:
            fd = os.open(name + "/stat", os.O_RDONLY, dir_fd=proc)
        except OSError:  # gone meanwhile
            return
        try:
            data = os.read(fd, _READ_BYTES)
        except ProcessLookupError:
            return
        finally:
            os.close(fd)
        fields = data[data.rindex(b")") + 2 :].split(b" ", 22)
        pid = int(name)
        # utime, stime, and those of the children that were waited for
        ticks = int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])
        self._by_pid[pid] = _Process(int(fields[3]), ticks, int(fields[21]))
        self._children.setdefault(int(fields[1]), []).append(pid)

    def below(self, shim: int) -> List[int]:
        """The children of a shim that are its project's: each run has a session of its own, a turn of the shim has the shim's."""
        return [pid for pid in self._children.get(shim, ()) if self._by_pid[pid].session != shim]

    def use(self, roots: Iterable[int]) -> Use:
        """What the trees of these use together, each process counted once."""
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
