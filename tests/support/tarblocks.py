"""Tar archives put together block by block, for what no tar program would write."""

from __future__ import annotations

from typing import Any, Dict, Tuple

END = bytes(1024)
USTAR, GNU, V7 = b"ustar\x0000", b"ustar  \0", bytes(8)


def header(name: bytes, kind: bytes = b"0", size: int = 0, link: bytes = b"", **fields: Any) -> bytes:
    """One tar header, right in all that isn't given as a field: mode, magic, prefix, size_field, checksum."""
    block = bytearray(512)
    block[0:100] = name.ljust(100, b"\0")
    block[100:108] = fields.get("mode", b"0000644\0")
    block[124:136] = fields.get("size_field", b"%011o\0" % size)
    block[136:148] = b"00000000000\0"
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[157:257] = link.ljust(100, b"\0")
    block[257:265] = fields.get("magic", USTAR)
    block[345:500] = fields.get("prefix", b"").ljust(155, b"\0")
    block[148:156] = fields.get("checksum", b"%06o\0 " % sum(block))
    return bytes(block)


def member(name: bytes, kind: bytes = b"0", content: bytes = b"", link: bytes = b"", **fields: Any) -> bytes:
    """A header and its padded content."""
    return header(name, kind, len(content), link, **fields) + content + bytes(-len(content) % 512)


def patched(data: bytes, patches: Dict[int, bytes]) -> bytes:
    """A member with bytes of its header replaced, by their offsets, and the checksum that fits."""
    block = bytearray(data[:512])
    for at, value in patches.items():
        block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data[512:]


def record(key: bytes, value: bytes) -> bytes:
    """One pax record with the right length."""
    rest = b" " + key + b"=" + value + b"\n"
    length = next(n for n in range(len(rest), len(rest) + 9) if len(str(n)) + len(rest) == n)
    return b"%d" % length + rest


def pax(*records: Tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    return member(b"PaxHeaders/x", kind, b"".join(record(key, value) for key, value in records))
