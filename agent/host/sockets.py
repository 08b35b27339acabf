"""Listening sockets that a shim binds, holds and passes on (sd_listen_fds(3): LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES).

The shim never accepts. Because the socket outlives every child, connections wait in its backlog
while there is none, and are never refused.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
from typing import Dict, Mapping, Tuple, Union

from agent.errors import UsageError

BACKLOG = 4096
FIRST_FD = 3
UNIX = "unix:"


def parse_address(address: str) -> Tuple[str, int]:
    """`HOST:PORT` or `[HOST]:PORT` as (host, port). ValueError otherwise."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")  # before it is looked at: to bind "" is to bind every address
    if not host or not (port.isascii() and port.isdigit() and len(port) <= 5) or int(port) > 65535:
        raise ValueError(f"{address!r} is not HOST:PORT")
    return host, int(port)


def bind(name: str, address: str) -> int:
    """A listening socket's descriptor (close-on-exec) for the agent itself. UsageError when the address can't be had."""
    try:
        return listen(address)
    except OSError as error:
        raise UsageError(
            f"socket {name!r}: can't listen on {address}: {error.strerror or error}.",
            "Choose another address with --listen, or stop what holds this one ('ss -ltnp' names it).",
        ) from error


def listen(address: str) -> int:
    """A listening socket's descriptor (close-on-exec) on `HOST:PORT` or `unix:/PATH`. OSError when it can't be had."""
    family, where = _place(address)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if isinstance(where, str):
            _remove_stale(where)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        if isinstance(where, str):
            os.chmod(where, 0o666)  # as systemd.socket(5) does; who may reach it is a matter of its folder
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener.detach()


def _place(address: str) -> Tuple[int, Union[str, Tuple[str, int]]]:
    """The address family and what to bind to."""
    if address.startswith(UNIX):
        return socket.AF_UNIX, address[len(UNIX) :]
    host, port = parse_address(address)
    return (socket.AF_INET6 if ":" in host else socket.AF_INET), (host, port)


def _remove_stale(path: str) -> None:
    """Make way where a socket lies that nobody listens on any more (unix(7): connect then fails with ECONNREFUSED)."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "there is a file that is no socket", path)
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)


def inherited(environ: Mapping[str, str]) -> Dict[str, int]:
    """The descriptors that were passed to this process, by name; each is made close-on-exec."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    passed = {name: FIRST_FD + index for index, name in enumerate(names) if name}
    for fd in passed.values():
        os.set_inheritable(fd, False)
    return passed


def listen_environment(names: Tuple[str, ...]) -> Dict[str, str]:
    """What a child that gets descriptors 3, 4, … under these names has to be told; call it in the child."""
    if not names:
        return {}
    return {"LISTEN_FDS": str(len(names)), "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": ":".join(names)}


def is_awaited(listener: socket.socket) -> bool:
    """Whether a connection waits in its queue: without descriptors, accept(2) fails before it looks there."""
    look = select.poll()
    look.register(listener, select.POLLIN)
    return bool(look.poll(0))
