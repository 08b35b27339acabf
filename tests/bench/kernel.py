"""What proc(5) and the file system say of memory, descriptors, threads and blocks."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from tests.support import processes


def pss_bytes(pid: int) -> int:
    """The proportional set size: shared pages count as a share each."""
    return _smaps(pid)["Pss"]


def private_bytes(pid: int) -> int:
    """What ends with the process: its private pages."""
    found = _smaps(pid)
    return found["Private_Clean"] + found["Private_Dirty"]


def _smaps(pid: int) -> Dict[str, int]:
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as stream:
        lines = [line.split() for line in stream if line.endswith("kB\n")]
    return {fields[0].rstrip(":"): int(fields[1]) * 1024 for fields in lines}


class Spent(NamedTuple):
    """Processor time in milliseconds, and how often a thread was woken (each wake-up ends in a switch of context)."""

    milliseconds: float
    wakeups: float

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.milliseconds - other.milliseconds, self.wakeups - other.wakeups)

    def __truediv__(self, seconds: float) -> Spent:
        return Spent(self.milliseconds / seconds, self.wakeups / seconds)


def spent(pids: Iterable[int]) -> Spent:
    """What all threads of these processes have spent so far: the first field of schedstat, and voluntary switches (proc(5))."""
    milliseconds = wakeups = 0.0
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as stream:
                    milliseconds += int(stream.read().split()[0]) / 1e6
                with open(f"/proc/{pid}/task/{thread}/status", encoding="ascii") as stream:
                    wakeups += sum(int(line.split()[1]) for line in stream if line.startswith("voluntary_ctxt_switches"))
    return Spent(milliseconds, wakeups)


def reset_peak(pid: int) -> None:
    """Let `peak_bytes` count from here."""
    with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as stream:
        stream.write("5")


def peak_bytes(pid: int) -> int:
    """The largest resident set since `reset_peak` (VmHWM)."""
    return int(processes.status(pid)["VmHWM"].split()[0]) * 1024


def usage(pid: int) -> Dict[str, int]:
    """What a process may leak: descriptors, threads, resident bytes, dead children that nobody has reaped."""
    return {
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(processes.status(pid)["Threads"]),
        "resident": processes.resident_bytes(pid),
        "zombies": sum(parent == pid and state == "Z" for parent, state in parents()),
    }


def parents() -> List[Tuple[int, str]]:
    """(parent, state) of every process of the host."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as stream:
                fields = stream.read().rpartition(b")")[2].split()
        except OSError:
            continue
        found.append((int(fields[1]), fields[0].decode()))
    return found


def files_below(directory: str) -> List[str]:
    """Every file, link and directory below it, relative and sorted."""
    found = []
    for base, folders, files in os.walk(directory):
        found += [os.path.relpath(os.path.join(base, name), directory) for name in [*folders, *files]]
    return sorted(found)


def allocated_bytes(directory: str) -> int:
    """The blocks of all files below, each file once however many names it has."""
    seen: Set[int] = set()
    total = 0
    for base, _, files in os.walk(directory):
        for name in files:
            try:
                found = os.lstat(os.path.join(base, name))
            except FileNotFoundError:
                continue
            if found.st_ino not in seen:
                seen.add(found.st_ino)
                total += found.st_blocks * 512
    return total


class DiskPeak:
    """The most blocks that a directory had while this was open, beyond what it had before; looked at by a thread."""

    def __init__(self, directory: str, seconds: float = 0.02) -> None:
        self.bytes = 0
        self._directory = directory
        self._seconds = seconds
        self._before = allocated_bytes(directory)
        self._ended = threading.Event()
        self._thread: Optional[threading.Thread] = None

    def __enter__(self) -> DiskPeak:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        assert self._thread is not None
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(self._seconds):
            self.bytes = max(self.bytes, allocated_bytes(self._directory) - self._before)
