"""One connection in Waitress's loop, with what it lacks for us.

A turn of the loop sends a bounded number of bytes, so that one fast reader can't hold it; one
request is handled at a time; a half-received body is dropped with its connection; and a refused
client that is still sending gets to read the answer before the connection ends.
"""

from __future__ import annotations

import functools
import socket
import time
from typing import Any, Dict, Optional, Tuple

from waitress.channel import HTTPChannel
from waitress.task import ErrorTask, WSGITask

from agent.errors import AgentError, MalformedRequest
from agent.web import problems
from agent.web.admission import AdmissionParser
from agent.web.streams import STREAM, Sending

FLUSH_BYTES = 1 << 20
SEND_BYTES = 1 << 18
LINGER_BYTES = 16 << 20
LINGER_SECONDS = 2.0


class Task(WSGITask):  # type: ignore[misc]
    """A call. While the agent drains, its answer ends the connection."""

    environ: Any

    def get_environment(self) -> Dict[str, Any]:
        environ: Dict[str, Any] = super().get_environment()
        environ["ant.caller"] = self.request.caller
        return environ

    def build_response_header(self) -> bytes:
        if self.channel.server.draining:
            self.set_close_on_finish()
        return super().build_response_header()  # type: ignore[no-any-return]

    def service(self) -> None:
        """A stream that was admitted (routes.py) is sent by its thread, on a descriptor of its own; this side just ends."""
        try:
            super().service()
        finally:
            streams, sending = self._admitted()
            if sending is not None:  # it was not handed over
                sending.stream.close()
                streams.dismiss()

    def finish(self) -> None:
        streams, sending = self._admitted()
        if sending is None:
            super().finish()
            return
        self.content_length = None
        self.remove_content_length_header()
        self.set_close_on_finish()
        head = self.build_response_header()
        self.wrote_header = True
        if self.request.command == "HEAD":
            self.channel.write_soon(head)
            return
        connection = self.channel.socket.dup()
        connection.setblocking(False)
        self.environ.pop(STREAM)
        streams.take(connection, sending.stream, head, self.chunked_response)

    def _admitted(self) -> Tuple[Any, Optional[Sending]]:
        found: Tuple[Any, Optional[Sending]] = (self.environ or {}).get(STREAM, (None, None))
        return found


class ProblemTask(ErrorTask):  # type: ignore[misc]
    """A refused request, answered with its problem document."""

    def execute(self) -> None:
        error = self.request.error
        if not isinstance(error, AgentError):
            error = problems.from_server(error.code, error.body)
        self.status, headers, body = problems.render(error)
        self.response_headers.extend(headers)
        self.set_close_on_finish()
        self.content_length = len(body)
        self.channel.server.gate.note_refusal(self.request)
        self.write(b"" if getattr(self.request, "command", "") == "HEAD" else body)


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection; made and driven by the loop's thread, except for `service` and `write_soon` (workers)."""

    task_class = Task
    error_task_class = ProblemTask
    parser_class: Any
    request: Any
    sendbuf_len: int
    sent_continue: bool
    close_when_flushed: bool
    total_outbufs_len: int

    def __init__(self, server: Any, sock: socket.socket, addr: Any, adj: Any, map: Any = None) -> None:
        self.parser_class = functools.partial(
            AdmissionParser, gate=server.gate, peer_address=str(addr[0]), local_address=str(sock.getsockname()[0]),
            certified=getattr(sock, "names", ()),
        )  # fmt: skip
        self.head_since = time.monotonic()
        self._waiting = b""
        self._ends = False
        self._linger_until: Optional[float] = None
        self._lingered_bytes = 0
        super().__init__(server, sock, addr, adj, map=map)
        self.sendbuf_len = min(self.sendbuf_len, SEND_BYTES)

    @property
    def last_activity(self) -> float:
        """When it was last heard or spoken to (monotonic clock)."""
        return self._last_activity

    @last_activity.setter
    def last_activity(self, _now: float) -> None:
        """Waitress says so by the wall clock, which may be set back by years: then nothing would ever be idle."""
        self._last_activity = time.monotonic()

    @property
    def is_idle(self) -> bool:
        """Nothing is received, worked on or sent."""
        return not (self.requests or self.request or self.total_outbufs_len or self._waiting)

    @property
    def is_lingering(self) -> bool:
        """Its answer is out, and all that is left is to let the client read it."""
        return self._linger_until is not None

    def readable(self) -> bool:
        if self._linger_until is not None:
            if time.monotonic() > self._linger_until:
                self.will_close = True
            return not self.will_close
        if self._waiting and super().readable():
            data, self._waiting = self._waiting, b""
            try:
                self.received(data)
            except OSError:
                self.will_close = True
        return bool(super().readable())

    def handle_read(self) -> None:
        try:
            data = self.socket.recv(self.adj.recv_bytes)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if self._linger_until is not None:
            self._lingered_bytes += len(data)
            if not data or self._lingered_bytes > LINGER_BYTES:
                self.handle_close()
        elif data:
            self.last_activity = time.monotonic()
            self.received(data)
        elif self.request is not None:
            self._cut()
        else:
            self.handle_close()

    def _cut(self) -> None:
        """The client's side ended within a request: nothing of it stays, and if the client still reads, it is told."""
        request = self.request
        came = f"{request.body_bytes_received} of {request.content_length or '?'} bytes of the body"
        with self.requests_lock:
            request.refuse(MalformedRequest(f"The connection ended after {came}.", "Send the request again."))
            self._begin()

    def received(self, data: bytes) -> bool:
        """Take what came. One request at a time: what follows it waits until its answer is out.

        (Waitress would handle them all, and a worker would wait for the reader between two.)
        """
        with self.requests_lock:
            if self.will_close or self.close_when_flushed:
                return False
            while data and self.connected:
                if self.requests:
                    self._waiting += data
                    break
                if self.request is None:
                    self.request = self.parser_class(self.adj)
                    self.head_since = time.monotonic()
                data = data[self.request.received(data) :]
                if self.request.expect_continue and self.request.headers_finished and not self.sent_continue:
                    self.send_continue()
                if self.request is not None and self.request.completed:
                    self._begin()
        return True

    def _begin(self) -> None:
        request, self.request = self.request, None
        self.sent_continue = False
        if not request.empty:
            self._ends = request.is_last
            self.requests.append(request)
            self.server.add_task(self)

    def handle_write(self) -> None:
        """As Waitress's, but a connection that ends before its client has sent all lingers once the answer is out."""
        if not self.requests:
            self._flush_exception(self._flush_some)
        elif self.total_outbufs_len >= self.adj.send_bytes:
            self._flush_exception(self._flush_some_if_lockable)
        if self.close_when_flushed and not self.total_outbufs_len:
            self.close_when_flushed = False
            if self._ends and self._linger():
                return
            self.will_close = True
        if self.will_close:
            self.handle_close()

    def _linger(self) -> bool:
        """Send our end, then read and drop for a while: a close with unread data would be a reset (RFC 9112, 9.6)."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except (OSError, AttributeError):
            return False
        self._linger_until = time.monotonic() + LINGER_SECONDS
        return True

    def _flush_some(self, do_close: bool = True) -> bool:
        """Send until the socket is full or FLUSH_BYTES are out; the rest has its turn in the next round of the loop."""
        sent = 0
        while sent < FLUSH_BYTES:
            buffer = self.outbufs[0]
            if not buffer.__len__():  # len() would overflow on 32-bit hosts
                if len(self.outbufs) == 1:
                    break
                self.outbufs.pop(0).close()
                continue
            count = self.send(buffer.get(self.sendbuf_len), do_close=do_close)
            if not count:
                break
            buffer.skip(count, True)
            self.total_outbufs_len -= count
            sent += count
        if sent:
            self.last_activity = time.monotonic()
        return sent > 0

    def handle_close(self) -> None:
        """The connection is gone: so is what it was sending (Waitress leaves that to the garbage collector)."""
        if self.request is not None:
            self.request.close()
        super().handle_close()

    def cancel(self) -> None:
        for request in self.requests:
            request.close()
        super().cancel()
