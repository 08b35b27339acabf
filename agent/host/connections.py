"""Whose a socket is: by the kernel's tables (proc(5): /proc/net/tcp, tcp6, unix) and the descriptors of processes."""

from __future__ import annotations

import os
import socket
import struct
from typing import Iterable, Iterator, List, Optional, Tuple

from agent.host.files import read_bytes
from agent.host.sockets import UNIX, parse_address

_LISTEN = "0A"
_ANY = {"0.0.0.0", "::"}
#: proc(5), /proc/net/unix: the flag of a socket that listens.
_ACCEPTS = 0x10000


def accepted_inode(connection: socket.socket) -> Optional[int]:
    """The inode of the other end of a TCP connection within this host, once somebody has accepted it."""
    ours, theirs = connection.getsockname(), connection.getpeername()
    for local, remote, _, inode in _tcp():
        if inode and local == theirs[:2] and remote == ours[:2]:
            return inode
    return None


def listening_inode(address: str) -> Optional[int]:
    """The inode of the socket that listens on `HOST:PORT` or `unix:/PATH`, or so that nobody else can; None when it is free."""
    if address.startswith(UNIX):
        return next((inode for path, inode in _unix() if path == address[len(UNIX) :]), None)
    host, port = parse_address(address)
    if ":" not in host:
        host = socket.gethostbyname(host)
    for local, _, state, inode in _tcp():
        if state == _LISTEN and local[1] == port and (local[0] == host or _ANY & {local[0], host}):
            return inode
    return None


def holder(inode: int, pids: Iterable[int]) -> Optional[int]:
    """The first of these processes that has the socket open (as far as this user may look)."""
    return next((pid for pid in pids if any(found == inode for _, found in sockets_of(pid))), None)


def sockets_of(pid: int) -> List[Tuple[int, int]]:
    """(descriptor, inode) of every socket that the process has open; none where it may not be looked at."""
    found = []
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return []
    for name in names:
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        if target.startswith("socket:["):
            found.append((int(name), int(target[8:-1])))
    return found


def _unix() -> Iterator[Tuple[str, int]]:
    """(path, inode) of every listening UNIX socket that has a path."""
    for line in (read_bytes("/proc/net/unix") or b"").decode(errors="replace").splitlines()[1:]:
        fields = line.split(None, 7)
        if len(fields) == 8 and int(fields[3], 16) & _ACCEPTS:
            yield fields[7], int(fields[6])


def _tcp() -> Iterator[Tuple[Tuple[str, int], Tuple[str, int], str, int]]:
    """(local, remote, state, inode) of every TCP socket; an IPv4 address inside an IPv6 one as IPv4."""
    for table in ("tcp", "tcp6"):
        for line in (read_bytes(f"/proc/net/{table}") or b"").decode().splitlines()[1:]:
            fields = line.split()
            yield _address(fields[1]), _address(fields[2]), fields[3], int(fields[9])


def _address(text: str) -> Tuple[str, int]:
    """`0100007F:1F90` as ("127.0.0.1", 8080): 32-bit words in the host's byte order."""
    digits, _, port = text.partition(":")
    words = [int(digits[index : index + 8], 16) for index in range(0, len(digits), 8)]
    raw = struct.pack(f"={len(words)}I", *words)
    if len(raw) == 16 and raw[:12] == b"\0" * 10 + b"\xff\xff":
        raw = raw[12:]
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw), int(port, 16)
