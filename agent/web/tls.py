"""TLS of the agent's own: one thread a connection, between the client's socket and one end of a socketpair.

The other end goes on as a connection like any other, with the client's real address. So nothing behind this knows of
TLS: neither the front thread, which answers ping, nor Waitress, which can't select on OpenSSL's own buffer.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from agent.host import certificates
from agent.host.certificates import Certificate
from agent.host.usage import give_back_memory

#: What a connection gathers before it is passed on: a TLS record holds 16 KiB, and one call a record costs a third more.
_GATHER_BYTES = 1 << 18
_READ_BYTES = 1 << 16
_LINGER_SECONDS = 2.0
#: So many connections at once, some 40 KB each in OpenSSL's hands, are worth looking after what is left of them.
_CROWD = 100

#: Called with the decrypted connection and the client's address, or with None when there was no handshake.
Deliver = Callable[[Optional["Plaintext"], Any], None]


class Plaintext(socket.socket):
    """The inner end of a connection. `names` are those of the client's certificate, if one was asked for."""

    local: Any = ("", 0)
    names: Tuple[str, ...] = ()

    def getsockname(self) -> Any:
        """The address that the client has called."""
        return self.local


class Terminator:
    """Every TLS connection of this agent. `limit` of them at once; the oldest that is still shaking hands gives way."""

    def __init__(self, certificate: Certificate, deliver: Deliver, limit: int = 1000, handshake_seconds: float = 5.0) -> None:
        self._certificate = certificate
        self._context = certificate.context()
        self._deliver = deliver
        self._limit = limit
        self._handshake_seconds = handshake_seconds
        self._open: Dict[int, ssl.SSLSocket] = {}
        self._shaking: Dict[int, ssl.SSLSocket] = {}
        self._lock = threading.Lock()
        self._most = 0

    @property
    def count(self) -> int:
        """How many connections there are."""
        return len(self._open)

    def reload(self) -> None:
        """Read the files again, for connections from now on. UsageError when they can't be used; then the old ones stay."""
        self._context = self._certificate.context()

    def take(self, accepted: socket.socket, address: Any) -> None:
        """Serve it in a thread of its own. Whatever becomes of it, `deliver` is called once."""
        accepted.setblocking(False)
        try:
            if accepted.family != socket.AF_UNIX:  # a short answer would wait for the client's delayed acknowledgement (tcp(7))
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            outer = self._context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        except OSError:  # it has gone again
            self._deliver(None, address)
            return
        if self._has_room(outer):
            try:
                threading.Thread(target=self._serve, args=(outer, address), name="tls", daemon=True).start()
                return
            except RuntimeError:  # no further thread can be had
                self._forget(outer)
        outer.close()
        self._deliver(None, address)

    def _has_room(self, outer: ssl.SSLSocket) -> bool:
        with self._lock:
            if len(self._open) >= self._limit:
                if not self._shaking:
                    return False
                with contextlib.suppress(OSError):  # its thread finds it closed, and ends
                    socket.socket.shutdown(self._shaking.pop(next(iter(self._shaking))), socket.SHUT_RDWR)
            self._open[id(outer)] = self._shaking[id(outer)] = outer
            return True

    def _serve(self, outer: ssl.SSLSocket, address: Any) -> None:
        inner: Optional[Plaintext] = None
        try:
            self._shake_hands(outer)
            with self._lock:
                self._shaking.pop(id(outer), None)
            inner, ours = _pair(outer)
            self._deliver(inner, address)
            with ours:
                _Pump(outer, ours).run()
            farewell(outer)
        except OSError:  # of whom there is nothing to tell: no client of ours, or one that has gone
            pass
        finally:
            if inner is None:
                self._deliver(None, address)
            outer.close()
            self._forget(outer)

    def _shake_hands(self, outer: ssl.SSLSocket) -> None:
        try:
            shake_hands(outer, self._handshake_seconds)
        except ssl.SSLError:
            linger(outer)  # so that the client gets to read why
            raise

    def _forget(self, outer: ssl.SSLSocket) -> None:
        with self._lock:
            self._open.pop(id(outer), None)
            self._shaking.pop(id(outer), None)
            self._most = max(self._most, len(self._open) + 1)
            is_over = self._most > _CROWD and len(self._open) < _CROWD // 2
            if is_over:
                self._most = 0
        if is_over:
            give_back_memory()


def shake_hands(outer: ssl.SSLSocket, seconds: float) -> None:
    """OSError (ssl.SSLError is one) when it fails or takes longer than it may, however slowly its bytes come."""
    deadline = time.monotonic() + seconds
    poll = select.poll()
    while True:
        try:
            outer.do_handshake()
            return
        except ssl.SSLWantReadError:
            poll.register(outer, select.POLLIN)
        except ssl.SSLWantWriteError:
            poll.register(outer, select.POLLOUT)
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise socket.timeout("the handshake took too long")


def _pair(outer: ssl.SSLSocket) -> Tuple[Plaintext, socket.socket]:
    inner, ours = socket.socketpair()
    plain = Plaintext(fileno=inner.detach())
    plain.local, plain.names = outer.getsockname(), certificates.names(outer.getpeercert())
    for end in (plain, ours):
        end.setblocking(False)
    return plain, ours


class _Pump:
    """Both ways in one thread, since an SSLSocket is not to be used by two."""

    def __init__(self, outer: ssl.SSLSocket, ours: socket.socket) -> None:
        self._outer, self._ours = outer, ours
        self._incoming, self._outgoing = b"", b""
        self._hears_client = self._feeds = True
        self._poll = select.poll()

    def run(self) -> None:
        """Until the inner end is closed and all that it said is sent. OSError when the client can't be reached."""
        while True:
            moved = self._inward()
            if not self._outgoing:
                data = _receive(self._ours)
                if data == b"":
                    return
                self._outgoing, moved = data or b"", moved or bool(data)
            if self._outgoing:
                count = _try(self._outer.send, self._outgoing)
                self._outgoing, moved = self._outgoing[count:], moved or count > 0
            if not moved:
                self._wait()

    def _inward(self) -> bool:
        """From the client to us; whether anything moved."""
        moved = False
        if self._hears_client and not self._incoming:
            self._incoming, self._hears_client = _gather(self._outer)
            moved = bool(self._incoming) or not self._hears_client
        if self._incoming:
            try:
                count = _try(self._ours.send, self._incoming)
            except OSError:  # nobody wants it any more; what was answered is still to be sent
                self._incoming, self._hears_client, self._feeds = b"", False, False
                return True
            self._incoming, moved = self._incoming[count:], moved or count > 0
        if self._feeds and not (self._hears_client or self._incoming):
            self._feeds = False
            with contextlib.suppress(OSError):
                self._ours.shutdown(socket.SHUT_WR)
        return moved

    def _wait(self) -> None:
        """A descriptor of which nothing is wanted is not polled: its hang-up would be reported for ever."""
        wanted = (
            (self._outer, self._hears_client and not self._incoming, bool(self._outgoing)),
            (self._ours, not self._outgoing, bool(self._incoming)),
        )
        for end, reads, writes in wanted:
            events = (select.POLLIN if reads else 0) | (select.POLLOUT if writes else 0)
            self._poll.register(end, events)
            if not events:
                self._poll.unregister(end)
        self._poll.poll()


def _gather(outer: ssl.SSLSocket) -> Tuple[bytes, bool]:
    """What has come, as much as makes sense at once, and whether more can come. Reads until OpenSSL has nothing left, or a poll
    would wait for bytes that are here already."""
    pieces: List[bytes] = []
    size = 0
    while size < _GATHER_BYTES:
        try:
            piece = outer.recv(_READ_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return b"".join(pieces), True
        except OSError:
            piece = b""
        if not piece:
            return b"".join(pieces), False
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces), True


def _receive(ours: socket.socket) -> Optional[bytes]:
    """None when there is nothing yet, b"" at the end, which is a reset when the other side had not read everything (unix(7))."""
    try:
        return ours.recv(_READ_BYTES)
    except BlockingIOError:
        return None
    except ConnectionResetError:
        return b""


def _try(send: Callable[[bytes], int], data: bytes) -> int:
    """How many bytes were taken. A retry passes the same bytes, as OpenSSL demands (SSL_write(3), SSL_ERROR_WANT_WRITE)."""
    try:
        return send(data)
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return 0


def farewell(outer: ssl.SSLSocket) -> None:
    """Say that nothing more comes (close_notify), and see that the client gets to read it."""
    with contextlib.suppress(ssl.SSLError):
        outer.unwrap()
    linger(outer)


def linger(outer: ssl.SSLSocket) -> None:
    """Send our end, then read and drop for a while: a close with unread data would be a reset, and take from the client what was
    said last (RFC 9112, 9.6)."""
    socket.socket.shutdown(outer, socket.SHUT_WR)
    deadline = time.monotonic() + _LINGER_SECONDS
    poll = select.poll()
    poll.register(outer.fileno(), select.POLLIN)
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        if not socket.socket.recv(outer, _READ_BYTES):
            return
