"""A tar that exists nowhere: headers are computed, contents read from open descriptors when they are sent.

So a download costs no disk, no copy and constant memory, its length is known beforehand, and any part of it can be
sent again.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from typing import List, NamedTuple, Optional, Sequence, Tuple, Union

_BLOCK = 512
_STEP_BYTES = 1 << 18


class Member(NamedTuple):
    """One regular file: its bytes, or an open descriptor and how many bytes of it; when modified (seconds, epoch)."""

    name: str
    content: Union[bytes, int]
    size: int
    modified: int = 0


class LogTar:
    """A read-only, seekable view of a tar (ustar with GNU long names) over its members, whose descriptors it owns.

    Sizes are fixed when it is made: what a file gains later is left out, what it loses reads as
    zeros. `read` raises OSError where a member can't be read. `etag` names the snapshot that it shows.
    """

    is_live = waits = False

    def __init__(self, members: Sequence[Member], etag: str = "") -> None:
        self.etag = etag
        self._starts: List[int] = []
        self._parts: List[Tuple[int, Union[bytes, int]]] = []
        self._descriptors: List[int] = []
        self.size_bytes = 0
        self._position = 0
        for member in members:
            self._add(member)
        self._append(2 * _BLOCK, bytes(2 * _BLOCK))

    def _add(self, member: Member) -> None:
        if isinstance(member.content, int):
            self._descriptors.append(member.content)
        head = header(member.name, member.size, member.modified)
        self._append(len(head), head)
        if member.size:
            self._append(member.size, member.content)
        if member.size % _BLOCK:
            self._append(-member.size % _BLOCK, bytes(-member.size % _BLOCK))

    def _append(self, size: int, content: Union[bytes, int]) -> None:
        self._starts.append(self.size_bytes)
        self._parts.append((size, content))
        self.size_bytes += size

    def restrict(self, begin: int, end: int) -> None:
        """Show only the bytes from `begin` to `end`; `size_bytes` becomes `end`."""
        self._position, self.size_bytes = begin, end

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As io.IOBase.seek."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size_bytes}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, fewer only at the end."""
        left = max(0, self.size_bytes - self._position)
        left = left if size < 0 else min(size, left)
        pieces = []
        while left:
            piece = self._piece(left)
            pieces.append(piece)
            self._position += len(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _piece(self, limit: int) -> bytes:
        index = bisect_right(self._starts, self._position) - 1
        offset = self._position - self._starts[index]
        size, content = self._parts[index]
        count = min(limit, size - offset)
        if isinstance(content, bytes):
            return content[offset : offset + count]
        return os.pread(content, count, offset) or bytes(count)

    def step(self) -> Optional[bytes]:
        """The next piece; None at the end."""
        return self.read(_STEP_BYTES) or None

    def close(self) -> None:
        """Close every descriptor; a second call does nothing."""
        descriptors, self._descriptors = self._descriptors, []
        for fd in descriptors:
            os.close(fd)


def header(name: str, size: int, modified: int) -> bytes:
    """The tar header of a regular file (tar(5)): ustar, with GNU's 'L' record for a name over 100 bytes and base 256
    for a size over 8 GiB."""
    encoded = name.encode("utf-8", "surrogateescape")
    head = b""
    if len(encoded) > 100:
        long_name = encoded + b"\0"
        head = _header(b"././@LongLink", len(long_name), 0, b"L") + long_name + bytes(-len(long_name) % _BLOCK)
    return head + _header(encoded[:100], size, modified, b"0")


def _header(name: bytes, size: int, modified: int, kind: bytes) -> bytes:
    octal = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    fields = [
        name.ljust(100, b"\0"),
        b"0000644\0",
        b"0000000\0",
        b"0000000\0",
        octal,
        b"%011o\0" % max(0, modified),
        b" " * 8,
        kind,
        bytes(100),
        b"ustar  \0",
    ]
    block = b"".join(fields).ljust(_BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
