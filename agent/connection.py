"""One call over one connection: head, body while nobody objects, answer.

A body goes out after `Expect: 100-continue` (RFC 9110, 10.1.1), so that a refusal costs no upload; and while
it goes out the other direction is watched, so that "disk full" in the middle is heard and not mistaken for a
broken pipe. http.client knows neither; it still makes the connection, the head and the response.
"""

from __future__ import annotations

import http.client
import io
import os
import re
import select
import socket
import ssl
from dataclasses import dataclass
from typing import Any, BinaryIO, Callable, Mapping, NoReturn, Optional
from urllib.parse import SplitResult, urlsplit

from agent import __version__
from agent.config import DEFAULT_LISTEN
from agent.errors import Unreachable, UsageError

#: Called with the bytes sent so far and the bytes in all.
Progress = Callable[[int, int], None]

_EXPECT_BYTES = 64 * 1024
_EXPECT_SECONDS = 1.0
_CHUNK_BYTES = 128 * 1024
_INTERIM = 12  # bytes of "HTTP/1.1 100": what tells an interim answer from a final one


class ConnectionLost(Unreachable):
    """The connection broke after it stood: the call may have been carried out or not."""


@dataclass(frozen=True)
class Body:
    """What a call carries: `size_bytes` from the start of a seekable file."""

    file: BinaryIO
    size_bytes: int
    content_type: str


def form_body(fields: Mapping[str, str], artifact: BinaryIO) -> Body:
    """A `multipart/form-data` body (RFC 7578) with these fields and the artifact, which is read as it is sent."""
    boundary = "ant-" + os.urandom(16).hex()
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n' for name, text in fields.items()]
    file_head = f'--{boundary}\r\nContent-Disposition: form-data; name="artifact"; filename="artifact"\r\n\r\n'
    size_bytes = artifact.seek(0, io.SEEK_END)
    head, tail = ("".join(parts) + file_head).encode(), f"\r\n--{boundary}--\r\n".encode()
    whole: Any = _Enclosed(head, artifact, tail)
    return Body(whole, len(head) + size_bytes + len(tail), f"multipart/form-data; boundary={boundary}")


class _Enclosed:
    """A file with some bytes before and after it, to be read from its start."""

    def __init__(self, head: bytes, file: BinaryIO, tail: bytes) -> None:
        self._parts = (io.BytesIO(head), file, io.BytesIO(tail))

    def seek(self, offset: int) -> None:
        for part in self._parts:
            part.seek(0)

    def read(self, size: int) -> bytes:
        return next((data for data in (part.read(size) for part in self._parts) if data), b"")


class Exchange:
    """Calls to one address. `timeout_seconds` is for the connection and for each silence on it."""

    def __init__(self, url: str, token: Optional[str], timeout_seconds: float, tls: Optional[ssl.SSLContext] = None) -> None:
        parts = _parts(url)
        if token and not re.fullmatch("[!-~]+", token):
            raise UsageError(
                "The key holds what no key has: a space, a line's end, a letter with an accent.",
                "Check --token, --token-file or ANT_HOST_AGENT_TOKEN.",
            )
        self.url = url.rstrip("/")
        self._token = token
        self._timeout_seconds = timeout_seconds
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._address, self._prefix = parts.netloc, parts.path.rstrip("/")

    def call(
        self,
        method: str,
        target: str,
        body: Optional[Body] = None,
        wait_seconds: Optional[float] = None,
        on_progress: Optional[Progress] = None,
    ) -> http.client.HTTPResponse:
        """The answer, its head read; closing it closes the connection. Unreachable or ConnectionLost without one."""
        connection = self._connect()
        try:
            self._send_head(connection, method, target, body)
            # what may be waited for so long may be silent for as long: lines that are followed
            silence_seconds = max(self._timeout_seconds, wait_seconds or 0.0) if method == "GET" else self._timeout_seconds
            incoming = _Incoming(connection.sock, silence_seconds)
            if body is not None:
                _send_body(incoming, body, on_progress)
            return incoming.answer(method, wait_seconds or self._timeout_seconds)
        except BaseException as error:
            connection.close()
            if isinstance(error, (OSError, http.client.HTTPException)):
                self.raise_lost(error)
            raise

    def raise_lost(self, error: Exception) -> NoReturn:
        """Say of a connection that stood how it failed."""
        if isinstance(error, socket.timeout):
            hint = "It is busy or stuck: `ping` tells whether the agent answers at all."
            raise Unreachable(f"{self.url} took the call and then stayed silent for too long.", hint) from error
        if isinstance(error, http.client.HTTPException) and not isinstance(
            error, (http.client.RemoteDisconnected, http.client.IncompleteRead)
        ):
            raise Unreachable(f"What answers at {self.url} doesn't speak HTTP.", "Check the address: --url.") from error
        if isinstance(error, ssl.SSLError) and "CERTIFICATE" in (error.reason or ""):
            hint = "It asks for a certificate of yours: --client-cert FILE, a PEM file with the certificate and its key."
            raise Unreachable(f"{self.url} refused the connection: {reason(error)}.", hint) from error
        raise ConnectionLost(
            f"The connection to {self.url} broke before the answer was complete ({reason(error)}).",
            "The call may have been carried out or not; `status` tells. Launching the same artifact again is safe.",
        ) from error

    def _connect(self) -> http.client.HTTPConnection:
        try:
            if self._tls is None:
                connection = http.client.HTTPConnection(self._address, timeout=self._timeout_seconds)
            else:
                connection = http.client.HTTPSConnection(self._address, timeout=self._timeout_seconds, context=self._tls)
            connection.connect()
        except (OSError, http.client.InvalidURL, UnicodeError) as error:
            raise Unreachable(f"No agent answers at {self.url}: {reason(error)}.", _connect_hint(error)) from error
        # A host that loses its power during a long call sends nothing, not even a reset.
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        return connection

    def _send_head(self, connection: http.client.HTTPConnection, method: str, target: str, body: Optional[Body]) -> None:
        connection.putrequest(method, self._prefix + target, skip_accept_encoding=True)
        connection.putheader("User-Agent", "ant-host-agent/" + __version__)
        connection.putheader("Connection", "close")
        if self._token:
            connection.putheader("Authorization", "Bearer " + self._token)
        if body is not None:
            connection.putheader("Content-Type", body.content_type)
            connection.putheader("Content-Length", str(body.size_bytes))
            if body.size_bytes >= _EXPECT_BYTES:
                connection.putheader("Expect", "100-continue")
        elif method == "POST":
            connection.putheader("Content-Length", "0")
        connection.endheaders()


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not set("?#@ ") & set(url):
            return parts
    except ValueError:  # no port, or no address between the brackets
        pass
    raise UsageError(f"{url!r} is not the address of an agent.", f"Write for example http://{DEFAULT_LISTEN}.")


def reason(error: BaseException) -> str:
    """What the system says about it, in a few words."""
    if isinstance(error, socket.timeout):
        return "it did not answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message.rstrip('.')})"
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS: {error.reason.lower().replace('_', ' ')}"
    return str(getattr(error, "strerror", None) or error or type(error).__name__).rstrip(".")


def _connect_hint(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "Nothing listens there. Start the agent (`ant-host-agent.pyz`), or name another address with --url."
    if isinstance(error, ssl.SSLCertVerificationError):
        return "Name a file with its certificate or the authority's: --ca FILE."
    if isinstance(error, ssl.SSLError):
        return "Check whether it speaks TLS there (http:// or https://), and whether it asks for a --client-cert."
    if isinstance(error, socket.gaierror):
        return "That host name can't be resolved. Check --url and this machine's DNS."
    return "Check the address (--url), the network and any firewall between here and there."


def _send_body(incoming: _Incoming, body: Body, on_progress: Optional[Progress]) -> None:
    """Send until all is sent or an answer comes. When sending fails, there may be an answer all the same."""
    if body.size_bytes >= _EXPECT_BYTES:
        incoming.has_answer(_EXPECT_SECONDS)
    body.file.seek(0)
    sent = 0
    while sent < body.size_bytes and not incoming.has_answer(0):
        chunk = _read(body, sent)
        try:
            incoming.sock.sendall(chunk)
        except OSError:
            if incoming.has_answer(_EXPECT_SECONDS):
                return
            raise
        sent += len(chunk)
        if on_progress is not None:
            on_progress(sent, body.size_bytes)


def _read(body: Body, offset: int) -> bytes:
    try:
        chunk = body.file.read(min(_CHUNK_BYTES, body.size_bytes - offset))
    except OSError as error:
        detail = f"The artifact can't be read at byte {offset}: {reason(error)}."
        raise UsageError(detail, "Check the disk it is on.") from error
    if not chunk:
        raise UsageError(
            f"The artifact became shorter while it was sent: {offset} of {body.size_bytes} bytes.",
            "Launch it again once nothing writes it any more.",
        )
    return chunk


class _Incoming(io.RawIOBase):
    """What the agent sends: looked at while we still send, then read as an answer."""

    def __init__(self, sock: socket.socket, timeout_seconds: float) -> None:
        self.sock = sock
        self._timeout_seconds = timeout_seconds
        self._seen = b""
        self._ended = False
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def has_answer(self, seconds: float) -> bool:
        """Whether an answer, or the connection's end, comes in that time; `100 Continue` is none, but ends the wait."""
        self._receive(seconds)
        while self._seen and (len(self._seen) < _INTERIM or self._seen[9:_INTERIM] == b"100"):
            _, end, rest = self._seen.partition(b"\r\n\r\n")
            if end:
                self._seen = rest
            elif not self._receive(self._timeout_seconds):
                break
        return bool(self._seen) or self._ended

    def answer(self, method: str, wait_seconds: float) -> http.client.HTTPResponse:
        """The answer's head. The body is read from the response."""
        self.sock.settimeout(wait_seconds)
        connected: Any = self  # HTTPResponse needs nothing of a socket but makefile()
        response = http.client.HTTPResponse(connected, method=method)
        try:
            response.begin()
        except BaseException:
            response.close()
            raise
        self.sock.settimeout(self._timeout_seconds)
        return response

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self, _CHUNK_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._seen:
            return self.sock.recv_into(buffer)
        count = min(len(buffer), len(self._seen))
        buffer[:count], self._seen = self._seen[:count], self._seen[count:]
        return count

    def close(self) -> None:
        self.sock.close()
        super().close()

    def _receive(self, seconds: float) -> bool:
        """Take what has arrived, or arrives within that time; whether anything did."""
        if self._ended or not self._poll.poll(seconds * 1000):
            return False
        self.sock.settimeout(0.05)  # TLS may be readable for its own sake, with nothing for us
        try:
            data = self.sock.recv(_CHUNK_BYTES)
        except socket.timeout:
            return False
        except OSError:
            data = b""
        finally:
            self.sock.settimeout(self._timeout_seconds)
        self._seen += data
        self._ended = not data
        return bool(data)
