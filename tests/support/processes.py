"""What the kernel says of processes (proc(5)), told without any code of the agent.

A process is its pid and its start time; a zombie is dead.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from typing import Dict, Iterable, Iterator, List, Optional, Set

from tests.support.wait import eventually


@dataclass(frozen=True)
class Process:
    """One live process as it was when it was looked at."""

    pid: int
    start_time: int
    parent: int
    state: str
    command: str

    def __str__(self) -> str:
        return f"{self.pid} ({self.command})"


def look(pid: int) -> Optional[Process]:
    """The live process `pid`; None if there is none or it is a zombie."""
    stat = _read(pid, "stat")
    if not stat:
        return None
    fields = stat.rpartition(b")")[2].split()
    state = fields[0].decode()
    if state in "ZX":
        return None
    command = _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
    return Process(pid, int(fields[19]), int(fields[1]), state, command)


def is_alive(process: Process) -> bool:
    """Whether this very process still runs; its pid in other hands is not it."""
    now = look(process.pid)
    return now is not None and now.start_time == process.start_time


def every() -> List[Process]:
    """All live processes of the host."""
    found = (look(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [process for process in found if process is not None]


def tree(pid: int) -> List[Process]:
    """The live descendants of `pid`, parents first, without itself."""
    children: Dict[int, List[Process]] = {}
    for process in every():
        children.setdefault(process.parent, []).append(process)
    found: List[Process] = []
    todo = [pid]
    while todo:
        for child in children.get(todo.pop(0), ()):
            found.append(child)
            todo.append(child.pid)
    return found


def mentioning(path: str) -> List[Process]:
    """Live processes that have `path` in their arguments or environment, or work in it, or have a file of it open."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid() and _mentions(int(name), path):
            process = look(int(name))
            if process is not None:
                found.append(process)
    return found


def holders(path: str) -> List[int]:
    """Pids that have the file `path` open."""
    pids: Set[int] = set()
    for process in every():
        if path in descriptors(process.pid).values():
            pids.add(process.pid)
    return sorted(pids)


def descriptors(pid: int) -> Dict[int, str]:
    """What the descriptors of `pid` point to."""
    found = {}
    for name in _list(f"/proc/{pid}/fd"):
        target = _readlink(f"/proc/{pid}/fd/{name}")
        if target is not None:
            found[int(name)] = target
    return found


def status(pid: int) -> Dict[str, str]:
    """`/proc/<pid>/status` by name."""
    lines = _read(pid, "status").decode().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def environment(pid: int) -> Dict[str, str]:
    """The environment that `pid` was executed with."""
    entries = _read(pid, "environ").decode(errors="surrogateescape").split("\0")
    return {name: value for name, _, value in (entry.partition("=") for entry in entries if entry)}


def resident_bytes(pid: int) -> int:
    """The resident memory of `pid`."""
    return int(status(pid)["VmRSS"].split()[0]) * 1024


def kill_hard(process: Process, deadline_seconds: float = 10.0) -> None:
    """SIGKILL, and return once it is dead."""
    if is_alive(process):
        os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: not is_alive(process), deadline_seconds, f"the end of {process}")


def kill_all(victims: Iterable[Process]) -> None:
    """SIGKILL every one of `victims`, whether or not it still runs."""
    for process in victims:
        if is_alive(process):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def _mentions(pid: int, path: str) -> bool:
    needle = os.fsencode(path)
    if any(needle in text for text in _texts(pid)):
        return True
    places = [_readlink(f"/proc/{pid}/cwd"), *descriptors(pid).values()]
    return any(place is not None and (place == path or place.startswith(path + "/")) for place in places)


def _texts(pid: int) -> Iterator[bytes]:
    yield _read(pid, "cmdline")
    yield _read(pid, "environ")


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as stream:
            return stream.read()
    except OSError:  # it is gone, or somebody else's
        return b""


def _list(path: str) -> List[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _readlink(path: str) -> Optional[str]:
    try:
        return os.readlink(path)
    except OSError:
        return None
