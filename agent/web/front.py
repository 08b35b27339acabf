"""The front thread: it owns accept, waits for a whole request head and answers /ping itself.

Every other connection goes to Waitress with the bytes that were read, or waits for it while the agent starts. So no
upload, stuck launch, slow reader or half-sent head can reach ping: this thread never waits for anything but epoll(7).
"""

from __future__ import annotations

import errno
import select
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, Optional, Tuple

from agent.errors import AgentError, MalformedRequest
from agent.host import sockets
from agent.web import pong, problems

if TYPE_CHECKING:
    from agent.web.tls import Terminator

HEAD_BYTES = 64 * 1024
KEEP_ALIVE_SECONDS = 75.0
CONNECTIONS = 2000
_USER_TIMEOUT_MILLISECONDS = 30_000
_ACCEPTS = 64
_HUNG_SECONDS = 5.0
_LINGER_BYTES, _LINGER_SECONDS = 2 << 20, 2.0
#: The first byte of every TLS connection: content type 22 (RFC 8446, 5.1).
_HANDSHAKE = b"\x16"
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@dataclass
class _Connection:
    socket: socket.socket
    address: Any
    deadline: float
    data: bytearray = field(default_factory=bytearray)
    was_served: bool = False
    still_dropped: int = 0  # once it is refused: how many more bytes are read and dropped
    is_encrypted: bool = False


class Front(threading.Thread):
    """Accepts on `listener` until drained or stopped. What is not a ping stands in `handed_over`: (socket, address, bytes)."""

    def __init__(
        self, listener: socket.socket, limit: int = CONNECTIONS, head_seconds: float = 10.0, idle_seconds: float = 5.0
    ) -> None:
        super().__init__(name="front", daemon=True)
        # first of all, since dup() makes the copy what the original is: the agent that we succeed shares the open file, and its
        # front thread would wait in accept(2) for one more caller if the flag were gone for an instant (fcntl(2), F_SETFL)
        listener.setblocking(False)
        # accepted sockets inherit it: a reader that takes nothing for so long is dropped by the kernel (tcp(7))
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MILLISECONDS)
        self.listener = listener
        self.handed_over: Deque[Tuple[socket.socket, Any, bytes]] = deque()
        #: Called after each that was handed over, in this thread: it must not wait.
        self.tell: Callable[[], None] = lambda: None
        self._limit, self._head_seconds, self._idle_seconds = limit, head_seconds, idle_seconds
        self._connections: Dict[int, _Connection] = {}
        self._is_draining = self._is_stopped = self._is_accepting = self._is_paused = False
        self._next_sweep = 0.0
        self._turned_at = time.monotonic()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._epoll = select.epoll()
        #: Takes each connection as soon as the client has said something, and gives its plain end back by `adopt`.
        self.terminator: Optional[Terminator] = None
        self._adopted: Deque[Tuple[Optional[socket.socket], Any]] = deque()
        self._away = 0

    def drain(self) -> None:
        """Accept no more (the next server goes on with the shared queue), answer what comes, close what is idle.

        Takes no lock, so a signal handler may call it. The thread ends with its last connection.
        """
        self._is_draining = True
        self._wake()

    def stop(self) -> None:
        """End now, whatever is open."""
        self._is_stopped = True
        self._wake()

    def adopt(self, plain: Optional[socket.socket], address: Any) -> None:
        """From any thread: what became of a connection that the terminator took, None if nothing did."""
        self._adopted.append((plain, address))
        self._wake()

    @property
    def is_turning(self) -> bool:
        """Whether the thread looked at its connections lately."""
        return time.monotonic() - self._turned_at < _HUNG_SECONDS

    def _wake(self) -> None:
        try:
            self._wake_writer.send(b"x")
        except OSError:
            return  # full: it wakes anyhow; closed: there is nobody to wake

    def run(self) -> None:
        self._epoll.register(self.listener, select.EPOLLIN)
        self._epoll.register(self._wake_reader, select.EPOLLIN)
        self._is_accepting = True
        try:
            while not self._is_stopped and (self._is_accepting or self._connections or self._away):
                self._turn()
        finally:
            self._close_everything()

    def _turn(self) -> None:
        self._turned_at = time.monotonic()
        if self._is_draining and self._is_accepting:
            # a closed descriptor would stay registered: epoll goes by the open file, which others share
            self._epoll.unregister(self.listener)
            self._is_accepting = False
        for fd, _ in self._epoll.poll(0.1 if self._is_draining or self._is_paused else 1.0, 256):
            if fd == self._wake_reader.fileno():
                self._wake_reader.recv(4096)
            elif fd == self.listener.fileno():
                self._accept()
            elif fd in self._connections:
                self._guarded_read(fd)
        while self._adopted:
            plain, address = self._adopted.popleft()
            self._away -= 1
            if plain is not None:
                self._begin(plain, address, False)
        now = time.monotonic()
        if now >= self._next_sweep:
            self._sweep(now)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS):
            try:
                accepted, address = self.listener.accept()
            except OSError as error:
                if error.errno in _EXHAUSTED and sockets.is_awaited(self.listener):
                    self._make_room()
                return
            self._begin(accepted, address, self.terminator is not None)

    def _begin(self, connected: socket.socket, address: Any, is_encrypted: bool) -> None:
        connected.setblocking(False)
        if len(self._connections) >= self._limit:
            self._close_oldest()
        fd, deadline = connected.fileno(), time.monotonic() + self._head_seconds
        self._connections[fd] = _Connection(connected, address, deadline, is_encrypted=is_encrypted)
        self._epoll.register(fd, select.EPOLLIN)
        self._guarded_read(fd)

    def _make_room(self) -> None:
        """Out of descriptors: give up the oldest connection, or else leave the queue alone until the next sweep."""
        if self._connections:
            self._close_oldest()
        elif not self._is_paused:
            self._epoll.modify(self.listener, 0)
            self._is_paused = True
            self._next_sweep = time.monotonic() + 0.1

    def _guarded_read(self, fd: int) -> None:
        try:
            self._read(fd)
        except Exception as error:  # one connection must not end the thread that answers ping
            problems.incident(error)
            if fd in self._connections:
                self._release(fd).socket.close()

    def _read(self, fd: int) -> None:
        connection = self._connections[fd]
        try:
            data = connection.socket.recv(HEAD_BYTES, socket.MSG_PEEK if connection.is_encrypted else 0)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or 0 < connection.still_dropped <= len(data):
            self._end(fd, connection)
            return
        if connection.still_dropped:
            connection.still_dropped -= len(data)
            return
        if connection.is_encrypted and self.terminator is not None:
            self._decrypt(fd, data, self.terminator)
            return
        if not connection.data and data[:1] == _HANDSHAKE:
            self._refuse(fd, MalformedRequest("This port does not speak TLS.", "Call http://, not https://."))
            return
        if not connection.data and connection.was_served:
            connection.deadline = time.monotonic() + self._head_seconds
        connection.data += data
        self._serve(fd, connection)

    def _decrypt(self, fd: int, data: bytes, terminator: Terminator) -> None:
        if data[:1] != _HANDSHAKE:
            self._connections[fd].is_encrypted = False
            self._refuse(fd, MalformedRequest("This port speaks TLS.", "Call https://, not http://."))
            return
        connection = self._release(fd)
        self._away += 1
        terminator.take(connection.socket, connection.address)

    def _end(self, fd: int, connection: _Connection) -> None:
        if connection.data:
            self._refuse(fd, MalformedRequest("The connection ended within the request's head.", "Send it again."))
        else:
            self._release(fd).socket.close()

    def _serve(self, fd: int, connection: _Connection) -> None:
        """Answer the pings at the start of what came; hand over the first other request."""
        replies = bytearray()
        closing = False
        end = connection.data.find(b"\r\n\r\n")
        while end >= 0 and not closing:
            ping = pong.read(bytes(connection.data[: end + 4]))
            if ping is None:
                break
            closing = self._is_draining or pong.wants_close(ping)
            replies += pong.reply(ping, closing)
            del connection.data[: end + 4]
            end = connection.data.find(b"\r\n\r\n")
        if replies and not self._send(fd, connection, bytes(replies), closing):
            return
        if end >= 0:
            self._release(fd)
            self.handed_over.append((connection.socket, connection.address, bytes(connection.data)))
            self.tell()
        elif len(connection.data) > HEAD_BYTES:
            self._refuse(fd, problems.from_server(431, ""))

    def _send(self, fd: int, connection: _Connection, replies: bytes, closing: bool) -> bool:
        """Whether the connection goes on. A client that does not read its few bytes of pong is given up."""
        try:
            closing |= connection.socket.send(replies) < len(replies)
        except OSError:
            closing = True
        if closing:
            self._release(fd).socket.close()
            return False
        connection.was_served = True
        connection.deadline = time.monotonic() + (self._head_seconds if connection.data else KEEP_ALIVE_SECONDS)
        return True

    def _sweep(self, now: float) -> None:
        self._next_sweep = now + (0.1 if self._is_draining else 1.0)
        if self._is_paused and self._is_accepting:
            self._epoll.modify(self.listener, select.EPOLLIN)
            self._is_paused = False
        for fd, connection in list(self._connections.items()):
            is_idle = connection.was_served and not connection.data
            if self._is_draining and is_idle:
                connection.deadline = min(connection.deadline, now + self._idle_seconds)
            if now < connection.deadline:
                continue
            if connection.data:
                detail = f"The request's head was not complete in {self._head_seconds:g} s."
                self._refuse(fd, problems.RequestTimeout(detail, "Send it faster."))
            else:
                self._release(fd).socket.close()

    def _refuse(self, fd: int, error: AgentError) -> None:
        """Answer and send our end; what still comes is dropped, since a close with unread data is a reset (RFC 9112, 9.6)."""
        connection = self._connections[fd]
        connection.data.clear()
        try:
            connection.socket.send(problems.response(error))
            connection.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._release(fd).socket.close()
            return
        connection.still_dropped = _LINGER_BYTES
        connection.deadline = time.monotonic() + _LINGER_SECONDS

    def _release(self, fd: int) -> _Connection:
        self._epoll.unregister(fd)
        return self._connections.pop(fd)

    def _close_oldest(self) -> None:
        self._release(next(iter(self._connections))).socket.close()

    def _close_everything(self) -> None:
        if self._is_accepting:
            self._epoll.unregister(self.listener)
            self._is_accepting = False
        for fd in list(self._connections):
            self._release(fd).socket.close()
        for plain, _ in self._adopted:
            if plain is not None:
                plain.close()
        self._epoll.close()
        self._wake_reader.close()
        self._wake_writer.close()
