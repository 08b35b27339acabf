"""The sockets that a shim holds for its project: bound once, passed to every run, kept while there is none.

The record names each with the inode of its socket, so that the next turn, or the next shim, knows it again.
"""

from __future__ import annotations

import os
from typing import Dict, Iterable, Optional, Tuple

from agent.errors import Conflict
from agent.host import connections, files, pidfd, procfs, sockets
from agent.model import Release
from agent.shim.environment import marker
from agent.shim.journal import Journal
from agent.shim.record import Record
from agent.store.layout import ProjectLayout


def resolved(address: str, layout: ProjectLayout) -> str:
    """`HOST:PORT` as it is, and `unix:PATH` with an absolute path: a relative one is below $PERSIST_DIR."""
    if not address.startswith(sockets.UNIX):
        return address
    return sockets.UNIX + os.path.join(layout.data, address[len(sockets.UNIX) :])


def require(release: Release, layout: ProjectLayout, record: Optional[Record]) -> None:
    """Conflict, naming who has it, for an address that neither this project nor its shim holds: before anything changes."""
    held = {entry["address"] for entry in record.sockets} if record is not None else set()
    for name, address in release.sockets.items():
        address = resolved(address, layout)
        inode = None if address in held else connections.listening_inode(address)
        if inode is None:
            continue
        own = marker(layout)
        if connections.holder(inode, (p.pid for p in procfs.processes() if procfs.has_environment(p.pid, own))) is None:
            raise taken(address, None, name)


def taken(address: str, error: Optional[OSError] = None, name: str = "") -> Conflict:
    """Why an address can't be had, and who has it as far as that can be known."""
    field = f"sockets.{name}"
    why, hint = str(error.strerror or error) if error is not None else "", "Choose another address."
    inode = connections.listening_inode(address)
    if inode is None:
        return Conflict(f"{field}: can't listen on {address}: {why}.", hint, step="sockets", field=field)
    pid = connections.holder(inode, (process.pid for process in procfs.processes()))
    who = f"process {pid} ({procfs.command(pid)})" if pid is not None else "a process that this user may not look at"
    return Conflict(
        f"{field}: {address} is taken by {who}.", f"Stop it, or {hint[0].lower()}{hint[1:]}", step="sockets", field=field, pid=pid
    )


class Sockets:
    """Those that one turn knows of: `held` are the descriptors that the resident has."""

    def __init__(self, layout: ProjectLayout, journal: Journal, held: Iterable[int]) -> None:
        self._layout = layout
        self._journal = journal
        self._by_inode = {os.fstat(fd).st_ino: fd for fd in held}

    @property
    def fds(self) -> Tuple[int, ...]:
        """What the resident is to hold from now on."""
        return tuple(self._by_inode[inode] for inode in self._on_record().values() if inode in self._by_inode)

    @property
    def are_whole(self) -> bool:
        """Whether there are any, and all that are on record are held here."""
        on_record = self._on_record()
        return bool(on_record) and all(inode in self._by_inode for inode in on_record.values())

    def _on_record(self) -> Dict[str, int]:
        return {entry["address"]: entry["inode"] for entry in self._journal.record.sockets}

    def _note(self, on_record: Dict[str, int]) -> None:
        entries = tuple({"address": address, "inode": inode} for address, inode in on_record.items())
        self._journal.note(sockets=entries)

    def bound(self, release: Release) -> Dict[str, int]:
        """Descriptors for this release by name; what is not held yet is bound. Conflict naming who has an address."""
        on_record = self._on_record()
        found: Dict[str, int] = {}
        for name, address in release.sockets.items():
            address = resolved(address, self._layout)
            fd = self._by_inode.get(on_record.get(address, 0))
            if fd is None:
                try:
                    fd = sockets.listen(address)
                except OSError as error:
                    raise taken(address, error, name) from error
                on_record[address] = os.fstat(fd).st_ino
                self._by_inode[on_record[address]] = fd
                self._note(on_record)
            found[name] = fd
        return found

    def keep_only(self, release: Optional[Release]) -> bool:
        """Give up all that this release does not name; whether there was any. They are closed once this turn has ended."""
        wanted = {resolved(address, self._layout) for address in release.sockets.values()} if release is not None else set()
        on_record = self._on_record()
        spare = set(on_record) - wanted
        for address in spare:
            del on_record[address]
            if address.startswith(sockets.UNIX):
                files.remove_if_present(address[len(sockets.UNIX) :])
        if spare:
            self._note(on_record)
        return bool(spare)

    def recover(self, pids: Iterable[int]) -> None:
        """After the death of a shim: copies of what the running project still has open, where the kernel lets us."""
        missing = set(self._on_record().values()) - set(self._by_inode)
        refused = ""
        for owner, (fd, inode) in ((pid, found) for pid in pids for found in connections.sockets_of(pid)):
            if inode in missing:
                try:
                    self._by_inode[inode] = pidfd.take_descriptor(owner, fd)
                    missing.discard(inode)
                except OSError as error:
                    refused = str(error.strerror)
        if missing:
            self._journal.event("sockets_lost", missing=len(missing), reason=refused or "nobody has them open")
