"""The bytes of a tar, whatever it is compressed with: streamed, bounded, and complete or refused.

Exactly one compressed stream, nothing behind it, and no more output than Limits allow: a few
hundred bytes of xz can otherwise become a full disk.
"""

from __future__ import annotations

import bz2
import importlib
import lzma
import zlib
from typing import Any, BinaryIO, Iterator, Optional

from agent.errors import ArtifactFault
from agent.store.limits import DEFAULT, Limits
from agent.store.names import archive_refusal

_INPUT_BYTES = 1 << 16
_OUTPUT_BYTES = 1 << 18

#: First bytes → the compression's name. RFC 1952, bzip2's format, the .xz format, RFC 8878.
_MAGIC = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"))


# Now, since whoever unpacks is confined by then, and can't import any more.
try:
    _zstd_module: Any = importlib.import_module("compression.zstd")
except ImportError:
    _zstd_module = None


def compression(head: bytes) -> Optional[str]:
    """What a file that begins with `head` is compressed with: gzip, bzip2, xz, zstd, or None."""
    return next((name for magic, name in _MAGIC if head.startswith(magic)), None)


class _Gzip:
    """zlib's decompressor with the interface of bz2's and lzma's."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inflate.decompress(data or self._inflate.unconsumed_tail, max_length)


def _zstd() -> Any:
    if _zstd_module is None:
        raise ArtifactFault(
            "The artifact is compressed with zstd, and this host's Python has no zstd (it needs 3.14).",
            "Compress with gzip or xz instead: 'tar -czf' or 'tar -cJf'.",
        )
    return _zstd_module.ZstdDecompressor()


def _decompressor(name: str, limits: Limits) -> Any:
    if name == "gzip":
        return _Gzip()
    if name == "bzip2":
        return bz2.BZ2Decompressor()
    if name == "xz":
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=limits.xz_memory_bytes)
    return _zstd()


class Source:
    """A file's decompressed bytes, read forward only, with a few hundred KiB in memory."""

    def __init__(self, file: BinaryIO, limits: Limits = DEFAULT) -> None:
        self._file = file
        self._limits = limits
        self._name = compression(file.read(8))
        file.seek(0)
        self._decompressor: Any = _decompressor(self._name, limits) if self._name else None
        self._input_bytes = 0
        self._output_bytes = 0
        self._buffer = b""
        self._at = 0

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer only at the end."""
        pieces = []
        while size:
            piece = self.take(size)
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def chunks(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes in pieces; ArtifactFault if there aren't as many."""
        while size:
            piece = self.take(size)
            if not piece:
                raise archive_refusal("is cut short in the middle of a member", "Upload the whole file.")
            size -= len(piece)
            yield piece

    def take(self, most: int) -> bytes:
        """Between 1 and `most` bytes; none only at the end."""
        if self._at == len(self._buffer):
            self._buffer, self._at = self._next(), 0
        piece = self._buffer[self._at : self._at + most]
        self._at += len(piece)
        return piece

    def _next(self) -> bytes:
        data = self._file.read(_OUTPUT_BYTES) if self._decompressor is None else self._decompress()
        self._output_bytes += len(data)
        if self._output_bytes > self._limits.total_bytes + self._limits.entries * 1024:
            raise archive_refusal(f"unpacks to more than {self._limits.total_bytes} bytes")
        if self._decompressor is not None:
            self._check_ratio()
        return data

    def _check_ratio(self) -> None:
        if self._output_bytes > max(self._limits.ratio_free_bytes, self._input_bytes * self._limits.ratio):
            raise archive_refusal(
                f"has {self._name} data that unpacks to more than {self._limits.ratio} times its size",
                "This is how decompression bombs look; leave large files of zeros out of the artifact.",
            )

    def _decompress(self) -> bytes:
        stream = self._decompressor
        while not stream.eof:
            data = self._compressed() if stream.needs_input else b""
            try:
                output: bytes = stream.decompress(data, max_length=_OUTPUT_BYTES)
            except (zlib.error, lzma.LZMAError, OSError, ValueError, EOFError) as error:
                raise self._damaged(str(error)) from None
            except Exception as error:
                # compression.zstd's ZstdError is no subclass of any of the above.
                if type(error).__name__ != "ZstdError":
                    raise
                raise self._damaged(str(error)) from None
            if output:
                return output
        if stream.unused_data or self._file.read(1):
            raise archive_refusal(
                f"has bytes after its {self._name} stream",
                "Compress in one go: concatenated streams (pbzip2, cat a.gz b.gz) are not read.",
            )
        return b""

    def _compressed(self) -> bytes:
        data = self._file.read(_INPUT_BYTES)
        if not data:
            raise archive_refusal(f"has {self._name} data that is cut short", "Upload the whole file.")
        self._input_bytes += len(data)
        return data

    def _damaged(self, reason: str) -> ArtifactFault:
        return archive_refusal(f"has damaged {self._name} data: {reason}", "Build and upload it again.")
