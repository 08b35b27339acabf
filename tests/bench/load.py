"""The saturation of the ping row, as a process of its own: slow clients of every kind, until standard input ends.

    python -m tests.bench.load    {"address": […], "token": …, "project": …, "scale": 1.0} as one line on standard input

Prints `ready` once all are connected, and at the end one JSON line that counts what became of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections import Counter
from typing import Any, Coroutine, Dict, List, Tuple

HALF_SENT_HEADS, DOWNLOADS, UPLOADS, STUCK_LAUNCHES = 1000, 50, 20, 3
HEAD_PAUSE_SECONDS = 2.0
DOWNLOAD_BYTES_PER_SECOND, UPLOAD_BYTES_PER_SECOND, UPLOAD_BYTES = 200_000, 1_000_000, 1 << 30
_TICK_SECONDS = 0.1
#: A head that goes on for ever, byte by byte.
_HEAD = b"GET /project HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"x" * 1000


class Load:
    """The clients of one agent. `outcomes` counts the status lines and ends that they saw."""

    def __init__(self, address: Tuple[str, int], token: str, project: str) -> None:
        self.outcomes: Counter[str] = Counter()
        self._address = address
        self._project = project
        self._credentials = f"Host: localhost\r\nAuthorization: Bearer {token}\r\n"
        self._silent = socket.create_server(("127.0.0.1", 0))

    def clients(self, scale: float) -> List[Coroutine[Any, Any, None]]:
        """All of them; `scale` makes them fewer."""
        heads = [self.half_sent_head(number) for number in range(int(HALF_SENT_HEADS * scale))]
        downloads = [self.slow_download() for _ in range(int(DOWNLOADS * scale))]
        uploads = [self.slow_upload(number) for number in range(int(UPLOADS * scale))]
        return [*heads, *downloads, *uploads, *(self.stuck_launch(number) for number in range(STUCK_LAUNCHES))]

    async def half_sent_head(self, number: int) -> None:
        """One byte every two seconds; a new connection when the agent ends the old one."""
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await self._connect()
                writer.write(_HEAD[:1])
                await asyncio.sleep(HEAD_PAUSE_SECONDS * (number % 100) / 100)  # not all in the same instant
                for index in range(1, len(_HEAD)):
                    writer.write(_HEAD[index : index + 1])
                    await asyncio.sleep(HEAD_PAUSE_SECONDS)
                    if reader.at_eof():
                        break
                self.outcomes["head: connection ended by the agent"] += 1
                writer.close()

    async def slow_download(self) -> None:
        """The log tar at 200 KB/s; a refused one is asked for again a second later."""
        request = f"GET /project/{self._project}/logs HTTP/1.1\r\n{self._credentials}\r\n".encode()
        while True:
            reader, writer = await self._connect(receive_bytes=1 << 16)
            writer.write(request)
            status = await self._status(reader)
            self.outcomes[f"download: {status}"] += 1
            while status == "200" and await self._read_slowly(reader):
                self.outcomes["download: pieces"] += 1
            writer.close()
            await asyncio.sleep(1)

    async def slow_upload(self, number: int) -> None:
        """1 MB/s of a body of 1 GiB; a refused one is sent again a second later."""
        head = (
            f"POST /project?project=slow-{number} HTTP/1.1\r\n{self._credentials}"
            f"Content-Type: application/octet-stream\r\nContent-Length: {UPLOAD_BYTES}\r\n\r\n"
        ).encode()
        piece = bytes(int(UPLOAD_BYTES_PER_SECOND * _TICK_SECONDS))
        while True:
            reader, writer = await self._connect()
            self.outcomes["upload: begun"] += 1
            answer = asyncio.ensure_future(self._status(reader))
            with contextlib.suppress(OSError):
                writer.write(head + piece)
                while not answer.done():
                    await writer.drain()
                    await asyncio.sleep(_TICK_SECONDS)
                    writer.write(piece)
            self.outcomes[f"upload: {await answer}"] += 1
            writer.close()
            await asyncio.sleep(1)

    async def stuck_launch(self, number: int) -> None:
        """A launch whose artifact comes from a server that takes the call and never answers."""
        url = f"http://127.0.0.1:{self._silent.getsockname()[1]}/artifact"
        document = {"project": f"stuck-{number}", "artifact_url": url, "sha256": "0" * 64}
        body = json.dumps(document).encode()
        head = (
            f"POST /project HTTP/1.1\r\n{self._credentials}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        while True:
            reader, writer = await self._connect()
            writer.write(head + body)
            self.outcomes[f"stuck launch: {await self._status(reader)}"] += 1
            writer.close()
            await asyncio.sleep(1)

    async def _read_slowly(self, reader: asyncio.StreamReader) -> bytes:
        await asyncio.sleep(_TICK_SECONDS)
        return await reader.read(int(DOWNLOAD_BYTES_PER_SECOND * _TICK_SECONDS))

    async def _connect(self, receive_bytes: int = 0) -> Tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        connection = socket.socket()
        if receive_bytes:  # small, or the kernel's buffers would take the whole log at once
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, self._address)
        return await asyncio.open_connection(sock=connection, limit=1 << 16)

    async def _status(self, reader: asyncio.StreamReader) -> str:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (OSError, asyncio.IncompleteReadError):
            return "ended without an answer"
        return head.split()[1].decode()


async def main() -> None:
    """Run until standard input ends."""
    setup: Dict[str, Any] = json.loads(sys.stdin.readline())
    load = Load(tuple(setup["address"]), setup["token"], setup["project"])
    tasks = [asyncio.ensure_future(client) for client in load.clients(setup["scale"])]
    await asyncio.sleep(2)  # everybody is connected, and the first pieces are on their way
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    broken = [task for task in tasks if task.done() and not task.cancelled()]
    for task in broken:
        load.outcomes[f"a client ended: {task.exception()!r}"] += 1
    print(json.dumps(load.outcomes), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
