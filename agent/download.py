"""What a call brings back in pieces: a tar of logs, or text that goes on."""

from __future__ import annotations

import http.client
from typing import BinaryIO, Callable, Optional

from agent.connection import Exchange, Progress

_CHUNK_BYTES = 256 * 1024


class Download:
    """A tar on its way here. Closed as a context manager; an early end raises ConnectionLost, never looks whole."""

    def __init__(self, answer: http.client.HTTPResponse, exchange: Exchange) -> None:
        self._answer = answer
        self._exchange = exchange
        length = answer.getheader("Content-Length")
        self.size_bytes = int(length) if length and length.isdigit() else None
        self.received_bytes = 0

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *_: object) -> None:
        self._answer.close()

    def arriving(self) -> bytes:
        """What has arrived, at least a byte, which may have to be waited for; b"" at the end."""
        return self._read(self._answer.read1, _CHUNK_BYTES)

    def read(self, size: int = _CHUNK_BYTES) -> bytes:
        """Exactly `size` bytes, fewer at the end."""
        return self._read(self._answer.read, size)

    def _read(self, read: Callable[[int], bytes], size: int) -> bytes:
        try:
            data = read(size)
        except (OSError, http.client.HTTPException) as error:
            self._exchange.raise_lost(error)
        self.received_bytes += len(data)
        if not data and size and self.size_bytes is not None and self.received_bytes < self.size_bytes:
            self._exchange.raise_lost(http.client.IncompleteRead(b"", self.size_bytes - self.received_bytes))
        return data

    def save(self, file: BinaryIO, on_progress: Optional[Progress] = None) -> int:
        """Write all of it into an open file; the bytes written."""
        for data in iter(self.read, b""):
            file.write(data)
            if on_progress is not None:
                on_progress(self.received_bytes, self.size_bytes or 0)
        return self.received_bytes
