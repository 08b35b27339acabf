"""What every operation works with: the store, and the way to the shims. Nothing is kept between calls."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List

from agent import SCHEMA
from agent.errors import Conflict, NotFound
from agent.host import clock, files, locks
from agent.shim.handle import Control, Handle
from agent.shim.record import forget, is_volatile
from agent.store import releases, secrets, staging
from agent.store.layout import StoreLayout
from agent.store.unpacker import Unpacker

HISTORY_BYTES = 4 << 20


@dataclass(frozen=True)
class Agent:
    """The agent's process: where its store is, how it talks to its shim and to who unpacks for it, when it started
    (seconds since the epoch)."""

    store: StoreLayout
    control: Control
    started_at: float
    unpacker: Unpacker

    def handle(self, project: str) -> Handle:
        """The project's shim, known project or not."""
        return Handle(self.store.project(project), self.control)

    def known(self, project: str) -> Handle:
        """The shim of a project that was launched here at least once; NotFound otherwise."""
        handle = self.handle(project)
        if handle.want() is None:
            raise unknown(project)
        return handle

    def projects(self) -> List[str]:
        """Every project of this host by name, sorted."""
        handles = map(self.handle, os.listdir(self.store.projects))
        known = (handle for handle in handles if os.path.exists(handle.layout.want) or handle.want() is not None)
        return sorted(handle.layout.project for handle in known)


def forget_if_unused(handle: Handle) -> None:
    """Leave nothing of a project that was never launched, has no release and no secret. The caller is `changing` it."""
    layout = handle.layout

    def is_unused() -> bool:
        return handle.want() is None and not releases.every(layout) and not secrets.names(layout)

    if is_unused():
        with contextlib.suppress(OSError):  # nothing was made of it, it is gone already, or the disk refuses
            bury(handle, is_unused)


def bury(handle: Handle, is_due: Callable[[], bool]) -> bool:
    """Remove all of a project, for good, by a rename first: at no instant is half a project to be seen. False if it isn't due.

    Nobody writes a want or a secret meanwhile, so that none is taken along by mistake. FileNotFoundError if it is not here.
    """
    layout = handle.layout
    grave = staging.grave_path(layout.store)
    with locks.hold(layout.want_lock):
        if not is_due():
            return False
        os.rename(layout.root, grave)
        files.fsync_directory(os.path.dirname(layout.root))
    forget(layout)
    staging.remove(grave)
    return True


def unknown(project: str) -> NotFound:
    """What a call about a project that is not here, or not any more, is answered."""
    return NotFound(f"There is no project {project!r} on this host.", "GET /project lists what there is.", project=project)


@contextlib.contextmanager
def changing(handle: Handle, what: str, by: str, create: bool = False) -> Iterator[None]:
    """For the block, this call is the only one that changes the project; only a kill may interrupt it.

    Conflict, naming who does what since when, while another one is; NotFound if the project is not here (any more),
    unless it is to be created.
    """
    project = handle.layout.project
    while True:
        if create:
            files.make_directory(handle.layout.root)
        try:
            lock = locks.acquire(handle.layout.launch_lock)
            break
        except FileNotFoundError:
            if not create:
                raise unknown(project) from None
    if lock is None:
        raise _under_way(handle)
    try:
        _sign(lock, what, by)
        yield
    finally:
        os.close(lock)


def volatile_warnings(handle: Handle) -> List[str]:
    """What to tell a caller whose wish the disk did not take."""
    if not is_volatile(handle.layout):
        return []
    project = handle.layout.project
    warning = (
        f"The store's disk refuses writes, so a reboot would forget what is wanted of {project}. It is kept in memory, "
        "and written as soon as the disk takes it: free space, or repair and remount it."
    )
    return [warning]


def _sign(lock: int, what: str, by: str) -> None:
    """Say in the lock's file who holds it. A full disk costs this, never the call."""
    with contextlib.suppress(OSError):
        os.truncate(lock, 0)
        files.write_all(lock, json.dumps({"schema": SCHEMA, "what": what, "by": by, "since": clock.timestamp()}).encode())


def _under_way(handle: Handle) -> Conflict:
    """Whoever holds the lock has written into it who it is; a moment earlier that is not there yet."""
    project = handle.layout.project
    try:
        said = json.loads(files.read_bytes(handle.layout.launch_lock) or b"{}")
    except ValueError:
        said = {}
    members = {name: said[name] for name in ("what", "by", "since") if name in said}
    who = f"{members['by']} has been at it since {members['since']}: {members['what']}" if members else "it has just begun"
    return Conflict(
        f"Another call is changing {project} at this moment: {who}.",
        "Wait for it to end and send this one again, or kill the project, which cancels it.", project=project, under_way=True,
        **members,
    )  # fmt: skip


def remember(handle: Handle, event: str, **members: Any) -> None:
    """One line of the project's history: what was done, by whom, with what verdict. A disk that refuses costs the line."""
    line: Dict[str, Any] = {"at": clock.timestamp(), "event": event, **members}
    try:
        files.append_line(handle.layout.history, line, HISTORY_BYTES)
    except OSError as error:
        sys.stderr.write(f"{handle.layout.history}: {error.strerror}: {line}\n")
