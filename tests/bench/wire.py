"""Bulk over HTTP at the least cost for the one who measures: sendfile out, one buffer in."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import time
from typing import Dict, Optional, Tuple

from tests.support.agent import AgentHost
from tests.support.http import Response

Address = Tuple[str, int]

_TIMEOUT_SECONDS = 300.0
_CHUNK_BYTES = 1 << 18


class Bare:
    """`bare.py` as a process; `address` is where it serves."""

    def __init__(self, python: str, *words: str) -> None:
        program = os.path.join(os.path.dirname(__file__), "bare.py")
        self._process = subprocess.Popen([python, "-I", "-S", program, *words], stdout=subprocess.PIPE)

    def __enter__(self) -> Bare:
        assert self._process.stdout is not None
        self.address: Address = ("127.0.0.1", int(self._process.stdout.readline()))
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def head(host: AgentHost, method: str, path: str, headers: Dict[str, str]) -> bytes:
    """The head of a call with the admin key."""
    whole = {"Host": "{}:{}".format(*host.address), "Authorization": f"Bearer {host.token}", **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in whole.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def upload(address: Address, before: bytes, path: str, after: bytes = b"") -> Response:
    """Send `before`, the file and `after`; the answer."""
    with socket.create_connection(address, timeout=_TIMEOUT_SECONDS) as connection, open(path, "rb") as file:
        connection.sendall(before)
        connection.sendfile(file)
        connection.sendall(after)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return Response(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())


def upload_bare(address: Address, path: str) -> float:
    """Seconds until a bare receiver has written the file."""
    with socket.create_connection(address, timeout=_TIMEOUT_SECONDS) as connection, open(path, "rb") as file:
        started = time.monotonic()
        connection.sendfile(file)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(2) == b"ok"
        return time.monotonic() - started


def download(address: Address, request: bytes) -> Tuple[float, int]:
    """Seconds and bytes until the other side ends the connection; the bytes are dropped."""
    buffer = bytearray(_CHUNK_BYTES)
    total = 0
    started = time.monotonic()
    with socket.create_connection(address, timeout=_TIMEOUT_SECONDS) as connection:
        connection.sendall(request)
        while True:
            count = connection.recv_into(buffer)
            if not count:
                return time.monotonic() - started, total
            total += count


def sparse_program(path: str, size_bytes: int, first: Optional[bytes] = None) -> str:
    """A file that is an executable artifact of that size and takes hardly any disk: a script, then zeros."""
    with open(path, "wb") as file:
        file.write(first or b"#!/bin/sh\nexec sleep 2147483647\n")
        file.truncate(size_bytes)
    return path
