"""HTTP as the tests speak it: one connection a call, on http.client and nothing else."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import secrets
import socket
import ssl
import urllib.parse
from dataclasses import dataclass
from typing import IO, Any, Dict, Mapping, Optional, Tuple, Union

Body = Union[bytes, IO[bytes], None]

TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Response:
    """An answer, read whole. Header names are in lower case."""

    status: int
    headers: Dict[str, str]
    body: bytes

    @property
    def json(self) -> Dict[str, Any]:
        """The body as a JSON object; AssertionError with the body if it is not one."""
        try:
            document = json.loads(self.body)
        except ValueError:
            raise AssertionError(f"not JSON: {self}") from None
        assert isinstance(document, dict), f"not an object: {self}"
        return document

    def __str__(self) -> str:
        return f"{self.status} {self.headers.get('content-type')} {self.body[:2000]!r}"


def request(
    address: Tuple[str, int], method: str, path: str, body: Body = None, headers: Optional[Mapping[str, str]] = None,
    tls: Optional[ssl.SSLContext] = None, timeout_seconds: float = TIMEOUT_SECONDS,
) -> Response:  # fmt: skip
    """One call on a connection of its own, over TLS if it is told whom to trust; of endless events the first block."""
    connection = http.client.HTTPConnection(*address, timeout=timeout_seconds)
    if tls is not None:
        connection = http.client.HTTPSConnection(*address, timeout=timeout_seconds, context=tls)
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        told = {k.lower(): v for k, v in answer.getheaders()}
        is_endless = told.get("content-type") == "text/event-stream" and method != "HEAD"
        return Response(answer.status, told, _first_block(answer) if is_endless else answer.read())
    finally:
        connection.close()


def _first_block(answer: http.client.HTTPResponse) -> bytes:
    lines = []
    while not lines or lines[-1] not in (b"\n", b""):
        lines.append(answer.readline())
    return b"".join(lines)


def raw(address: Tuple[str, int], sent: bytes, half_close: bool = False) -> Response:
    """Send exactly these bytes; the answer. `half_close` ends our side after them, as a cut connection does."""
    with socket.create_connection(address, timeout=TIMEOUT_SECONDS) as connection:
        connection.sendall(sent)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return Response(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())


def query(path: str, values: Mapping[str, object]) -> str:
    """`path` with the values that are not None as its query."""
    given = {name: str(value) for name, value in values.items() if value is not None}
    return path + ("?" + urllib.parse.urlencode(given) if given else "")


def multipart(fields: Mapping[str, str], files: Mapping[str, Tuple[str, bytes]]) -> Tuple[bytes, str]:
    """A multipart/form-data body (RFC 7578) and its content type. `files` maps a name to (file name, content)."""
    boundary = secrets.token_hex(16)
    parts = [(f'form-data; name="{name}"', value.encode()) for name, value in fields.items()]
    parts += [(f'form-data; name="{name}"; filename="{file}"', content) for name, (file, content) in files.items()]
    lines = []
    for disposition, content in parts:
        lines += [f"--{boundary}".encode(), f"Content-Disposition: {disposition}".encode(), b"", content]
    lines += [f"--{boundary}--".encode(), b""]
    return b"\r\n".join(lines), f"multipart/form-data; boundary={boundary}"


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that the kernel gives to no outgoing connection."""
    while True:
        port = random.randrange(12_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
