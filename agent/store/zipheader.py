"""The structures of a zip file (APPNOTE.TXT 6.3), read strictly, field by field.

A zip says everything two or three times; readers that believe different copies unpack different
trees (CVE-2024-0450, CVE-2025-8291). Here the copies agree, or the zip is refused.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from typing import BinaryIO, Dict, List, Optional, Tuple

from agent.errors import ArtifactFault
from agent.store.limits import Limits
from agent.store.names import archive_refusal, refusal

STORED, DEFLATED = 0, 8

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")

_MANY16, _MANY32 = 0xFFFF, 0xFFFFFFFF
_HAS_DESCRIPTOR, _UTF8_NAME = 0x8, 0x800
#: Bits 1 and 2 tell how hard deflate tried.
_KNOWN_FLAGS = _HAS_DESCRIPTOR | _UTF8_NAME | 0x6
_ZIP64, _UNICODE_PATH = 0x0001, 0x7075
_MADE_BY_UNIX = 3
_REBUILD = "Build it again with zip or Python's zipfile."


@dataclass(frozen=True)
class Entry:
    """One member as the central directory has it. `offset` is that of its local header, in bytes of the file."""

    name: bytes
    flags: int
    method: int
    crc: int
    stored_bytes: int
    size: int
    offset: int
    mode: int

    @property
    def is_directory(self) -> bool:
        return self.name.endswith(b"/")

    @property
    def is_symlink(self) -> bool:
        """Whether it is one, as `zip -y` writes them: the content is the target."""
        return stat.S_ISLNK(self.mode)

    @property
    def has_descriptor(self) -> bool:
        return bool(self.flags & _HAS_DESCRIPTOR)


@dataclass(frozen=True)
class Directory:
    """The central directory: where it begins in the file, and its entries in its own order."""

    offset: int
    entries: Tuple[Entry, ...]


def damaged(reason: str) -> ArtifactFault:
    """The refusal of a zip as a whole."""
    return ArtifactFault(f"The zip is damaged or not an ordinary one: {reason}.", _REBUILD)


def read_directory(file: BinaryIO, limits: Limits) -> Directory:
    """The central directory; ArtifactFault unless it lies right before the end record at the end of the file.

    Offsets are counted from the file's first byte or, where something was put before the finished
    zip (`cat shebang app.zip`), from its own: what they are off by is told by where the directory lies.
    """
    count, size, offset, end = _read_end(file)
    if count > limits.entries:
        raise archive_refusal(f"has more than {limits.entries} entries")
    if size > limits.directory_bytes or size > end:
        raise damaged("its central directory does not fit")
    shift = end - size - offset
    if shift < 0:
        raise damaged("its central directory is not where its end record says")
    file.seek(end - size)
    data = file.read(size)
    entries: List[Entry] = []
    at = 0
    for _ in range(count):
        entry, at = _read_entry(data, at, shift)
        entries.append(entry)
    if at != len(data):
        raise damaged("its central directory has more than its end record counts")
    return Directory(end - size, tuple(entries))


def _read_end(file: BinaryIO) -> Tuple[int, int, int, int]:
    """Count of entries, size and offset of the central directory, and where that ends."""
    file_bytes = file.seek(0, os.SEEK_END)
    tail_at = max(0, file_bytes - _END.size - _MANY16)
    file.seek(tail_at)
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise damaged("it has no end record; is it whole?")
    _, disk, first_disk, here, count, size, offset, comment = _END.unpack_from(tail, at)
    # The comment is allowed for git archive, which writes the commit there.
    if at + _END.size + comment != len(tail):
        raise damaged("its end record is not at its end")
    end = tail_at + at
    record64 = _read_end64(file, end)
    if record64 is None:
        if disk or first_disk or here != count:
            raise damaged("it is one of several disks")
        if count == _MANY16 or _MANY32 in (size, offset):
            raise damaged("its zip64 end record is missing")
        return count, size, offset, end
    # Info-ZIP writes zip64 records that it doesn't need; they have to say the same.
    count64, size64, offset64, end64 = record64
    pairs = ((here, count64, _MANY16), (count, count64, _MANY16), (size, size64, _MANY32), (offset, offset64, _MANY32))
    if any(short not in (long, many) for short, long, many in pairs):
        raise damaged("its two end records differ")
    return count64, size64, offset64, end64


def _read_end64(file: BinaryIO, end: int) -> Optional[Tuple[int, int, int, int]]:
    if end < _END64_LOCATOR.size + _END64.size:
        return None
    file.seek(end - _END64_LOCATOR.size)
    signature, disk, _, disks = _END64_LOCATOR.unpack(file.read(_END64_LOCATOR.size))
    if signature != b"PK\6\7":
        return None
    at = end - _END64_LOCATOR.size - _END64.size
    file.seek(at)
    record = file.read(_END64.size)
    signature, size, _, _, this_disk, first_disk, here, count, directory_size, offset = _END64.unpack(record)
    split = disk or disks > 1 or this_disk or first_disk or here != count
    if signature != b"PK\6\6" or size != _END64.size - 12 or split:
        raise damaged("its zip64 end record is wrong")
    return count, directory_size, offset, at


def _read_entry(data: bytes, at: int, shift: int) -> Tuple[Entry, int]:
    if len(data) - at < _CENTRAL.size:
        raise damaged("its central directory is cut short")
    (
        signature,
        made_by,
        _,
        flags,
        method,
        _,
        _,
        crc,
        stored_bytes,
        size,
        name_bytes,
        extra_bytes,
        comment_bytes,
        disk,
        _,
        attributes,
        offset,
    ) = _CENTRAL.unpack_from(data, at)
    name_at = at + _CENTRAL.size
    extra_at = name_at + name_bytes
    end = extra_at + extra_bytes + comment_bytes
    if signature != b"PK\1\2" or end > len(data):
        raise damaged("its central directory is cut short")
    name = data[name_at:extra_at]
    extra = _parse_extra(data[extra_at : extra_at + extra_bytes], name)
    size, stored_bytes, offset = _widen(extra, (size, stored_bytes, offset), name)
    unix = made_by >> 8 == _MADE_BY_UNIX
    if disk not in (0, _MANY16):
        raise refusal(name, "is on another disk of a split zip")
    if flags & ~_KNOWN_FLAGS:
        raise refusal(name, "is encrypted" if flags & 1 else f"has the unknown zip flags {flags:#x}")
    if method not in (STORED, DEFLATED):
        raise refusal(name, f"is compressed by zip's method {method}", "Use zip's default method, deflate, or store.")
    # Info-ZIP on Linux writes UTF-8 names without saying so.
    if not flags & _UTF8_NAME and not unix and not name.isascii():
        raise refusal(name, "has a name in an unknown character set", "Build the zip with UTF-8 names.")
    return Entry(name, flags, method, crc, stored_bytes, size, offset + shift, attributes >> 16 if unix else 0), end


def read_local(file: BinaryIO, entry: Entry) -> Tuple[int, int]:
    """Where the entry's data begins and where the entry ends; ArtifactFault unless both headers agree."""
    file.seek(entry.offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(b"PK\3\4"):
        raise refusal(entry.name, "has no local header")
    _, _, flags, method, _, _, crc, stored_bytes, size, name_bytes, extra_bytes = _LOCAL.unpack(header)
    name = file.read(name_bytes)
    extra = _parse_extra(file.read(extra_bytes), entry.name)
    size, stored_bytes = _widen(extra, (size, stored_bytes), entry.name)
    found, said = (crc, stored_bytes, size), (entry.crc, entry.stored_bytes, entry.size)
    # With a data descriptor the local header may leave each of them 0.
    agree = all(a == b or (a == 0 and entry.has_descriptor) for a, b in zip(found, said))
    if (name, flags, method) != (entry.name, entry.flags, entry.method) or not agree:
        raise refusal(entry.name, "is described differently by its two headers")
    data_at = entry.offset + _LOCAL.size + name_bytes + extra_bytes
    end = data_at + entry.stored_bytes
    return data_at, end + (_descriptor_bytes(file, entry, end) if entry.has_descriptor else 0)


def _descriptor_bytes(file: BinaryIO, entry: Entry, at: int) -> int:
    file.seek(at)
    found = file.read(24)
    for layout in ("<4sLLL", "<4sLQQ"):
        narrow = layout == "<4sLLL"
        if narrow and max(entry.stored_bytes, entry.size) > _MANY32:
            continue
        descriptor = struct.pack(layout, b"PK\7\x08", entry.crc, entry.stored_bytes, entry.size)
        if found.startswith(descriptor):
            return len(descriptor)
    raise refusal(entry.name, "has a data descriptor that differs from its header")


def _parse_extra(data: bytes, name: bytes) -> Dict[int, bytes]:
    fields: Dict[int, bytes] = {}
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise refusal(name, "has a damaged extra field")
        number, size = struct.unpack_from("<HH", data, at)
        at += 4
        if number in fields or at + size > len(data):
            raise refusal(name, "has a damaged extra field")
        fields[number] = data[at : at + size]
        at += size
    if _UNICODE_PATH in fields:
        raise refusal(name, "has a second name in an extra field", "Build the zip with UTF-8 names.")
    return fields


def _widen(extra: Dict[int, bytes], values: Tuple[int, ...], name: bytes) -> Tuple[int, ...]:
    """The values with those that are all ones replaced by the zip64 field's, which holds just them, in order.

    Python 3.9 writes the others, too, where nobody needed the field; they have to say the same.
    """
    wide = extra.get(_ZIP64, b"")
    found = struct.unpack(f"<{len(wide) // 8}Q", wide[: len(wide) // 8 * 8])
    needed = sum(value == _MANY32 for value in values)
    if len(wide) == 8 * needed:
        replacements = iter(found)
        return tuple(next(replacements) if value == _MANY32 else value for value in values)
    rest = values[len(found) :]
    agree = all(value in (_MANY32, long) for value, long in zip(values, found))
    if len(wide) % 8 or len(found) > len(values) or _MANY32 in rest or not agree:
        raise refusal(name, "has a zip64 field that says something else than its header")
    return (*found, *rest)
