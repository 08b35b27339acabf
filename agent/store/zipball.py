"""A strict reader of zip archives: the members tile the file exactly, or the whole zip is refused.

Every byte belongs to one member or to the central directory: no gaps to hide in and no overlaps
to multiply data with (the bombs of CVE-2019-9674 and CVE-2024-0450). A zipapp is only looked
into, never unpacked, so it may have a `#!` line before and gaps between its members.
"""

from __future__ import annotations

import stat
import zlib
from dataclasses import dataclass
from typing import BinaryIO, Dict, Iterator, List, Optional

from agent.store import zipheader
from agent.store.limits import DEFAULT, Limits
from agent.store.names import Path, archive_refusal, parse_name, parse_text, refusal
from agent.store.tree import Tree
from agent.store.zipheader import Entry, damaged

_INPUT_BYTES = 1 << 16
_OUTPUT_BYTES = 1 << 18


@dataclass(frozen=True)
class Member:
    """One member, its two headers checked against each other. `data_at` is where its bytes begin in the file."""

    path: Path
    entry: Entry
    data_at: int


def has_main(file: BinaryIO, limits: Limits = DEFAULT) -> bool:
    """Whether the zip is a zipapp: it has `__main__.py` at its top. ArtifactFault if it is no zip."""
    return any(entry.name == b"__main__.py" for entry in zipheader.read_directory(file, limits).entries)


def extract(file: BinaryIO, directory: str, limits: Limits = DEFAULT) -> None:
    """Unpack a zip into an empty directory, without its only top folder; raises as `tarball.extract` does."""
    members = read_members(file, limits)
    with Tree(directory, limits) as tree:
        for member in members:
            if member.entry.is_directory:
                tree.add_directory(member.path)
            elif member.entry.is_symlink:
                if member.entry.size > limits.path_bytes:
                    raise refusal(member.path, f"is a symlink to more than {limits.path_bytes} bytes")
                target = b"".join(read_content(file, member))
                tree.add_symlink(member.path, parse_text(member.entry.name, target, "link target", limits))
            else:
                executable = bool(member.entry.mode & stat.S_IXUSR)
                tree.add_file(member.path, member.entry.size, read_content(file, member), executable)
        tree.finish()


def check_zipapp(file: BinaryIO, limits: Limits = DEFAULT) -> None:
    """Read every member of a zipapp once; ArtifactFault if one is damaged."""
    for member in read_members(file, limits, zipapp=True):
        for _ in read_content(file, member):
            pass


def read_zipapp_member(file: BinaryIO, path: Path, most_bytes: int, limits: Limits = DEFAULT) -> Optional[bytes]:
    """The content of one member of a zipapp, None where there is none; ArtifactFault above `most_bytes`."""
    for member in read_members(file, limits, zipapp=True):
        if member.path == path and not member.entry.is_directory:
            if member.entry.size > most_bytes:
                raise refusal(path, f"is larger than {most_bytes} bytes")
            return b"".join(read_content(file, member))
    return None


def read_members(file: BinaryIO, limits: Limits = DEFAULT, zipapp: bool = False) -> List[Member]:
    """All members in the order of the file; ArtifactFault unless the zip as a whole is sound."""
    directory = zipheader.read_directory(file, limits)
    members: List[Member] = []
    end = 0
    for entry in sorted(directory.entries, key=lambda entry: entry.offset):
        path = _check_entry(entry, limits)
        if entry.offset + entry.stored_bytes > directory.offset:
            raise refusal(entry.name, "does not fit before the central directory")
        if entry.offset < end or (entry.offset > end and not zipapp):
            raise refusal(
                entry.name,
                "does not begin where the member before it ends",
                "A zip with bytes before or between its members is no ordinary one; build it again.",
            )
        data_at, end = zipheader.read_local(file, entry)
        members.append(Member(path, entry, data_at))
    if end > directory.offset or (end < directory.offset and not zipapp):
        raise damaged("its last member does not end where the central directory begins")
    _check_totals(members, limits)
    return members


def _check_entry(entry: Entry, limits: Limits) -> Path:
    path = parse_name(entry.name, limits)
    kind = stat.S_IFMT(entry.mode)
    expected = stat.S_IFDIR if entry.is_directory else stat.S_IFREG
    # `zip archive.zip -` records its standard input, when that is a pipe, as a FIFO named '-'.
    is_link = entry.is_symlink and not entry.is_directory
    if kind not in (0, expected) and not is_link and not (entry.name == b"-" and kind == stat.S_IFIFO):
        raise refusal(entry.name, "is neither a file nor a folder nor a symlink", "An artifact holds nothing else.")
    if not path and not entry.is_directory:
        raise refusal(entry.name, "has an empty name")
    # An empty deflate stream is two bytes long; jar compresses its folders to that.
    if entry.is_directory and (entry.size or entry.stored_bytes > 2):
        raise refusal(entry.name, "is a folder, but has data")
    if entry.method == zipheader.STORED and entry.size != entry.stored_bytes:
        raise refusal(entry.name, "is not compressed, and yet has two sizes")
    if entry.size > limits.member_bytes:
        raise refusal(entry.name, f"is larger than {limits.member_bytes} bytes")
    return path


def _check_totals(members: List[Member], limits: Limits) -> None:
    """Sizes against limits, and no name twice (zipapps aren't written through a Tree, so it is checked here)."""
    size = sum(member.entry.size for member in members)
    stored = sum(member.entry.stored_bytes for member in members)
    if size > limits.total_bytes:
        raise archive_refusal(f"unpacks to more than {limits.total_bytes} bytes")
    if size > limits.ratio_free_bytes and size > stored * limits.ratio:
        raise archive_refusal(
            f"unpacks to more than {limits.ratio} times its size",
            "This is how decompression bombs look; leave large files of zeros out of the artifact.",
        )
    seen: Dict[Path, bool] = {}
    for member in members:
        if member.path in seen and not (member.entry.is_directory and seen[member.path]):
            raise refusal(member.path, "is there twice", "Pack each name once.")
        seen[member.path] = member.entry.is_directory


def read_content(file: BinaryIO, member: Member) -> Iterator[bytes]:
    """A member's bytes in pieces; exactly `entry.size` of them with the right CRC, or ArtifactFault."""
    entry = member.entry
    pieces = _stored(file, member) if entry.method == zipheader.STORED else _inflated(file, member)
    size = crc = 0
    for piece in pieces:
        size += len(piece)
        crc = zlib.crc32(piece, crc)
        if size > entry.size:
            raise refusal(entry.name, "unpacks to more than it says")
        yield piece
    if size != entry.size or crc != entry.crc:
        raise refusal(entry.name, "is damaged: its size or CRC is wrong", "Build and upload the archive again.")


def _stored(file: BinaryIO, member: Member) -> Iterator[bytes]:
    at, left = member.data_at, member.entry.stored_bytes
    while left:
        file.seek(at)
        piece = file.read(min(left, _INPUT_BYTES))
        if not piece:
            raise refusal(member.path, "is cut short", "Upload the whole file.")
        at, left = at + len(piece), left - len(piece)
        yield piece


def _inflated(file: BinaryIO, member: Member) -> Iterator[bytes]:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    left = member.entry.stored_bytes
    try:
        for piece in _stored(file, member):
            left -= len(piece)
            while piece and not stream.eof:
                yield stream.decompress(piece, _OUTPUT_BYTES)
                piece = stream.unconsumed_tail
            if stream.eof:
                break
    except zlib.error as error:
        raise refusal(member.path, f"is damaged: {error}", "Build and upload the archive again.") from None
    while not stream.eof:
        # All input is taken, but the last output may still be held back by _OUTPUT_BYTES.
        rest = stream.decompress(b"", _OUTPUT_BYTES)
        if not rest:
            raise refusal(member.path, "is cut short", "Upload the whole file.")
        yield rest
    if stream.unused_data or left:
        raise refusal(member.path, "has bytes after its compressed data")
