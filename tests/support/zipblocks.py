"""Zip archives put together field by field, for what no zip program would write."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from typing import Any, Tuple

FILE, FOLDER, LINK, FIFO = (kind << 16 for kind in (0o100644, 0o040755, 0o120777, 0o010600))


@dataclasses.dataclass
class Member:
    """One member of a hand-made zip; what differs between its two headers is given as local_…"""

    name: bytes = b"a"
    content: bytes = b"hello"
    attributes: int = FILE
    flags: int = 0
    method: int = 0
    made_by: int = 3 << 8
    extra: bytes = b""
    local_extra: bytes = b""
    local_name: bytes = b""
    crc: int = -1
    size: int = -1
    stored: int = -1
    local_fields: Tuple[int, ...] = ()
    before: bytes = b""
    descriptor: bytes = b""
    offset: int = -1
    disk: int = 0

    def fields(self) -> Tuple[bytes, int, int, int]:
        """The bytes as stored, CRC, stored size and size."""
        data = self.content
        if self.method == 8:
            packer = zlib.compressobj(9, zlib.DEFLATED, -15)
            data = packer.compress(data) + packer.flush()
        crc = zlib.crc32(self.content) if self.crc < 0 else self.crc
        stored = len(data) if self.stored < 0 else self.stored
        return data, crc, stored, len(self.content) if self.size < 0 else self.size


def make(*members: Member, prefix: bytes = b"", gap: bytes = b"", shift: int = 0, **end: Any) -> bytes:
    """A zip of these members; `end` replaces fields of the end record: count, size, offset, comment, disk."""
    data, central = prefix, b""
    for member in members:
        data += member.before
        offset = len(data) - shift if member.offset < 0 else member.offset
        stored, *fields = member.fields()
        local = member.local_fields or tuple(fields)
        name = member.local_name or member.name
        head = (b"PK\3\4", 20, member.flags, member.method, 0, 33, *local, len(name), len(member.local_extra))
        data += struct.pack("<4s5H3L2H", *head) + name + member.local_extra + stored + member.descriptor
        central += struct.pack(
            "<4s6H3L5H2L",
            b"PK\1\2",
            member.made_by,
            20,
            member.flags,
            member.method,
            0,
            33,
            *fields,
            len(member.name),
            len(member.extra),
            0,
            member.disk,
            0,
            member.attributes,
            offset,
        )
        central += member.name + member.extra
    data += gap
    count = end.get("count", len(members))
    comment: bytes = end.get("comment", b"")
    before_end: bytes = end.get("before_end", b"")
    record = struct.pack(
        "<4s4H2LH",
        b"PK\5\6",
        end.get("disk", 0),
        0,
        count,
        count,
        end.get("size", len(central)),
        end.get("offset", len(data) - shift),
        len(comment),
    )
    return data + central + before_end + record + comment


def field(number: int, data: bytes) -> bytes:
    return struct.pack("<HH", number, len(data)) + data
