"""One tar header, read strictly: POSIX ustar and pax (pax(1)), GNU tar's variant (tar(5)), and v7.

Lenient readers disagree about damaged or doctored headers, and what one of them skips another one
unpacks (CVE-2025-62518, CVE-2026-33055); so whatever is not exactly as specified is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional, Tuple

from agent.store.names import archive_refusal, refusal

BLOCK_BYTES = 512
ZERO_BLOCK = bytes(BLOCK_BYTES)

FILE, OLD_FILE, HARD_LINK, SYMLINK, DIRECTORY = b"0", b"\0", b"1", b"2", b"5"
PAX, PAX_GLOBAL, GNU_NAME, GNU_LINK = b"x", b"g", b"L", b"K"
EXTENSIONS = (PAX, PAX_GLOBAL, GNU_NAME, GNU_LINK)
SPARSE = b"S"
MEMBERS = (FILE, OLD_FILE, HARD_LINK, SYMLINK, DIRECTORY, SPARSE)
GNU_MAGIC = b"ustar  \0"

#: What is refused, by what people know it as.
_FOREIGN = {
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a FIFO",
    b"7": "a contiguous file",
    b"V": "a volume label",
    b"M": "the rest of a multi-volume file",
    b"D": "an incremental dump (pack without --listed-incremental)",
    b"X": "a Solaris extended header",
    b"A": "a Solaris access control list",
}
_MAX_NUMBER = 1 << 62
_UTF8 = b"ISO-IR 10646 2000 UTF-8"


#: Where the pieces of a sparse file belong: (offset, bytes) each.
Extents = Tuple[Tuple[int, int], ...]


@dataclass(frozen=True)
class Header:
    """The fields that unpacking needs. `kind` is the type flag, one byte; names are raw bytes.

    `stored` bytes follow the header; `size` is what the file has once it is unpacked, more if it is sparse: `extents`.
    """

    kind: bytes
    name: bytes
    link: bytes
    mode: int
    size: int
    stored: int
    extents: Optional[Extents] = None


def is_header(block: bytes) -> bool:
    """Whether 512 bytes are a tar header: a known magic and the right checksum."""
    magic = block[257:265]
    known = magic.startswith(b"ustar\0") or magic in (GNU_MAGIC, bytes(8))
    return len(block) == BLOCK_BYTES and block != ZERO_BLOCK and known and _checksum_is_right(block)


def parse_header(block: bytes) -> Header:
    """The header in a block that isn't all zeros; ArtifactFault if it is none or not a member that we unpack."""
    name = _text(block[:100])
    if not is_header(block):
        raise refusal(name, "has a damaged or unknown tar header", "Build and upload the archive again.")
    if block.startswith(b"ustar\0", 257) and block[345]:
        name = _text(block[345:500]) + b"/" + name
    kind = block[156:157]
    if kind not in EXTENSIONS + MEMBERS:
        what = _FOREIGN.get(kind, f"of the unknown type {kind!r}")
        raise refusal(name, f"is {what}", "An artifact holds regular files, folders and links only.")
    size = read_number(block[124:136], name, "size")
    return Header(kind, name, _text(block[157:257]), read_number(block[100:108], name, "mode"), size, size)


def parse_long_name(data: bytes) -> bytes:
    """The content of a GNU long name or long link: one NUL-terminated string."""
    text = data[:-1] if data.endswith(b"\0") else data
    if not text or b"\0" in text:
        raise archive_refusal("has a GNU long name that is empty or has a NUL in it")
    return text


def parse_pax(data: bytes) -> Dict[bytes, bytes]:
    """The records of a pax header, `LENGTH KEY=VALUE\\n` each; ArtifactFault for anything else."""
    records: Dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 10)
        digits = data[at:space] if space > at else b""
        end = at + (int(digits) if digits.isdigit() and not digits.startswith(b"0") else 0)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not (space + 1 < end <= len(data) and data[end - 1 : end] == b"\n" and key and equals):
            raise archive_refusal("has a damaged pax header", "Build and upload the archive again.")
        if key in records and key.startswith(b"GNU.sparse"):
            raise archive_refusal("has a sparse file of version 0.0", "Pack without --sparse, or with --sparse-version=1.0.")
        if key in records:
            raise archive_refusal(f"has a pax header that sets {key[:40]!r} twice")
        records[key] = value
        at = end
    return _checked(records)


def _checked(records: Dict[bytes, bytes]) -> Dict[bytes, bytes]:
    if b"SCHILY.realsize" in records:
        raise archive_refusal("has a sparse file of star's own kind", "Pack with GNU tar, or without sparse files.")
    if records.get(b"hdrcharset", _UTF8) != _UTF8:
        raise archive_refusal("has names that are not UTF-8", "Rename the files.")
    for key in (b"path", b"linkpath", b"GNU.sparse.name"):
        if key in records and (not records[key] or b"\0" in records[key]):
            raise archive_refusal(f"has a pax header with a {key.decode()} that is empty or has a NUL in it")
    return records


def _checksum_is_right(block: bytes) -> bool:
    stored = block[148:156].split(b"\0")[0].strip(b" ")
    if not stored or stored.strip(b"01234567"):
        return False
    return int(stored, 8) == sum(block) - sum(block[148:156]) + 8 * ord(" ")


def read_number(field: bytes, name: bytes, what: str) -> int:
    """An octal number, or GNU tar's base-256 for what octal can't hold."""
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        if field[0] == 0xFF or value > _MAX_NUMBER:
            raise refusal(name, f"has a negative or absurd {what}")
        return value
    digits = field.split(b"\0")[0].strip(b" ")
    if digits.strip(b"01234567"):
        raise refusal(name, f"has a {what} that is no octal number")
    return int(digits or b"0", 8)


def _text(field: bytes) -> bytes:
    return field.split(b"\0")[0]
