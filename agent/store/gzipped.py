"""Any row of pieces, compressed while it is sent (RFC 1952)."""

from __future__ import annotations

import zlib
from typing import Optional, Protocol

#: The fastest one: a log shrinks to a tenth anyhow, and a small host has other things to do.
_LEVEL = 1
_GZIP = 16 + zlib.MAX_WBITS


class Pieces(Protocol):
    """What can be compressed: `step` gives the next piece, b"" when there is none yet, None at the end."""

    def step(self) -> Optional[bytes]: ...

    def close(self) -> None: ...


class Gzipped:
    """The gzip stream of `pieces`, which it owns."""

    is_live = waits = False

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        self._has_ended = False

    def step(self) -> Optional[bytes]:
        """The next piece; b"" while the compressor holds it back."""
        if self._has_ended:
            return None
        data = self._pieces.step()
        self._has_ended = data is None
        return self._deflate.flush() if data is None else self._deflate.compress(data)

    def close(self) -> None:
        """Let go of the pieces."""
        self._pieces.close()
