"""Processes as /proc shows them (proc(5)).

A process is identified by pid and start time (and boot id across boots); a pid alone is never
trusted, and a zombie is dead.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import Dict, Iterable, List, Optional, Set

from agent.host.files import read_bytes

_DEAD_STATES = ("Z", "X", "x")


@dataclass(frozen=True)
class Process:
    """One line of /proc/<pid>/stat; `start_time` is in clock ticks since boot."""

    pid: int
    ppid: int
    state: str
    start_time: int


@functools.cache
def boot_id() -> str:
    """This boot's random id; it tells records of before a reboot from those of after it."""
    return (read_bytes("/proc/sys/kernel/random/boot_id") or b"unknown").decode().strip()


def process(pid: int) -> Optional[Process]:
    """The process, dead ones included as long as they are zombies; None when there is none."""
    data = read_bytes(f"/proc/{pid}/stat")
    if not data:
        return None
    fields = data.rpartition(b")")[2].split()
    return Process(pid, int(fields[1]), fields[0].decode(), int(fields[19]))


def start_time(pid: int) -> Optional[int]:
    """Clock ticks since boot at which `pid` started; None when it is not alive."""
    found = process(pid)
    return None if found is None or found.state in _DEAD_STATES else found.start_time


def is_alive(pid: int, started: int) -> bool:
    """Whether the very process that started then is alive."""
    return start_time(pid) == started


def processes() -> List[Process]:
    """Every live process of the host."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            candidate = process(int(name))
            if candidate is not None and candidate.state not in _DEAD_STATES:
                found.append(candidate)
    return found


def descendants(roots: Iterable[int], among: Iterable[Process]) -> List[Process]:
    """The processes below `roots` (without them), parents before children."""
    children: Dict[int, List[Process]] = {}
    for candidate in among:
        children.setdefault(candidate.ppid, []).append(candidate)
    found: List[Process] = []
    seen: Set[int] = set()
    todo = list(roots)
    while todo:
        for child in children.get(todo.pop(0), ()):
            if child.pid not in seen:
                seen.add(child.pid)
                found.append(child)
                todo.append(child.pid)
    return found


def command(pid: int) -> str:
    """The command line with spaces between arguments, else the name in brackets; '' when it is gone."""
    line = (read_bytes(f"/proc/{pid}/cmdline") or b"").rstrip(b"\0").replace(b"\0", b" ")
    name = (read_bytes(f"/proc/{pid}/comm") or b"").strip()
    return (line[:512] or (b"[" + name + b"]" if name else b"")).decode(errors="replace")


def oom_kills() -> int:
    """How many processes the kernel has killed for memory on this host so far; 0 where it does not say (before 4.13)."""
    words = (read_bytes("/proc/vmstat") or b"").split()
    return int(words[words.index(b"oom_kill") + 1]) if b"oom_kill" in words else 0


def has_environment(pid: int, entry: bytes) -> bool:
    """Whether `NAME=value` stands in the environment that `pid` was executed with (False where it can't be read)."""
    try:
        data = read_bytes(f"/proc/{pid}/environ") or b""
    except PermissionError:
        return False
    return entry in data.split(b"\0")


def unit(pid: int) -> Optional[str]:
    """The systemd service that the process belongs to, as `name.service`; None if it is in none, or gone (cgroups(7))."""
    lines = (read_bytes(f"/proc/{pid}/cgroup") or b"").decode(errors="replace").splitlines()
    folders = [folder for line in lines for folder in line.split("/") if folder.endswith(".service")]
    return folders[-1] if folders else None


def give_up_oom_protection() -> None:
    """If the kernel is told to spare this process when memory runs out, tell it not to (oom_score_adj in proc(5))."""
    path = "/proc/self/oom_score_adj"
    if int(read_bytes(path) or 0) < 0:
        with open(path, "wb", buffering=0) as file:
            file.write(b"0")
