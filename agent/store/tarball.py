"""A strict streaming reader of tar archives: every header checked, or the whole archive refused.

The standard library's takes a damaged second header for a normal end, hangs on negative sizes
(CVE-2025-8194), and has no filter at all in Debian 12's Python; hence our own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import BinaryIO, Dict, Iterator, Optional

from agent.store import sparse, tarheader
from agent.store.decompress import Source
from agent.store.limits import DEFAULT, GIB, MIB, Limits
from agent.store.names import archive_refusal, parse_name, parse_text, refusal
from agent.store.tarheader import BLOCK_BYTES, DIRECTORY, FILE, HARD_LINK, OLD_FILE, SPARSE, SYMLINK, ZERO_BLOCK, Header
from agent.store.tree import Tree

_CUT_SHORT = "Upload the whole file; 'tar -tf' shows whether it is complete."
_PADDING_BYTES = MIB
#: Sizes from here on don't fit a ustar header, so the pax header alone gives them.
_OCTAL_LIMIT = 8 * GIB


def extract(file: BinaryIO, directory: str, limits: Limits = DEFAULT) -> None:
    """Unpack a tar, compressed or not, into an empty directory, without its only top folder.

    ArtifactFault (or StorageFull) for whatever is refused; the directory then holds a part and is
    the caller's to remove.
    """
    source = Source(file, limits)
    with Tree(directory, limits) as tree:
        for header in read_members(source, limits):
            _write(tree, header, source, limits)
        tree.finish()


def read_members(source: Source, limits: Limits = DEFAULT) -> Iterator[Header]:
    """The members, extension headers already applied.

    Whoever iterates must read exactly `stored` bytes of each one's content before the next; what
    pads it is read here.
    """
    extensions = _Extensions()
    headers = 0
    while True:
        block = source.read(BLOCK_BYTES)
        if len(block) < BLOCK_BYTES:
            raise archive_refusal("is cut short: it has no end mark", _CUT_SHORT)
        if block == ZERO_BLOCK:
            break
        headers += 1
        if headers > 3 * limits.entries:
            raise archive_refusal(f"has more than {3 * limits.entries} headers")
        header = tarheader.parse_header(block)
        if header.kind in tarheader.EXTENSIONS:
            extensions.add(header, _content(header, source, limits))
            continue
        header = sparse.resolve(_checked(extensions.apply(header)), block, extensions.pax or {}, source, limits)
        extensions = _Extensions()
        yield header
        _skip_padding(header.stored, source)
    if extensions.pending:
        raise archive_refusal("ends with an extension header that belongs to no member")
    _expect_end(source)


@dataclass
class _Extensions:
    """What the extension headers before a member say about it: at most one of each kind."""

    pax: Optional[Dict[bytes, bytes]] = None
    name: Optional[bytes] = None
    link: Optional[bytes] = None
    pending: bool = False

    def add(self, header: Header, content: bytes) -> None:
        if header.kind == tarheader.PAX_GLOBAL:
            # git archive puts the commit here; anything else would change how other members read.
            if set(tarheader.parse_pax(content)) - {b"comment"}:
                raise archive_refusal("has a global pax header that sets more than a comment")
            return
        twice = archive_refusal("has two extension headers of a kind for one member")
        self.pending = True
        if header.kind == tarheader.PAX:
            if self.pax is not None:
                raise twice
            self.pax = tarheader.parse_pax(content)
        elif header.kind == tarheader.GNU_NAME:
            if self.name is not None:
                raise twice
            self.name = tarheader.parse_long_name(content)
        else:
            if self.link is not None:
                raise twice
            self.link = tarheader.parse_long_name(content)

    def apply(self, header: Header) -> Header:
        """The header with its name, link and size replaced."""
        pax = self.pax or {}
        if (self.name is not None and b"path" in pax) or (self.link is not None and b"linkpath" in pax):
            raise refusal(header.name, "is given its name twice, by a GNU and by a pax header")
        name = pax.get(b"path", header.name if self.name is None else self.name)
        link = pax.get(b"linkpath", header.link if self.link is None else self.link)
        size = self._size(header, pax.get(b"size"))
        return replace(header, name=name, link=link, size=size, stored=size)

    def _size(self, header: Header, text: Optional[bytes]) -> int:
        if text is None:
            return header.size
        if not text.isdigit() or len(text) > 18:
            raise refusal(header.name, "has a pax size that is no number")
        size = int(text)
        if size != header.size and header.size != 0 and size < _OCTAL_LIMIT:
            raise refusal(header.name, "has one size in its header and another one in its pax header")
        return size


def _content(header: Header, source: Source, limits: Limits) -> bytes:
    if header.size > limits.extension_bytes:
        raise archive_refusal(f"has an extension header of more than {limits.extension_bytes} bytes")
    content = b"".join(source.chunks(header.size))
    _skip_padding(header.size, source)
    return content


def _checked(header: Header) -> Header:
    """The member with OLD_FILE resolved to what it is (a folder if its name ends in '/', tar(5))."""
    kind, is_folder_name = header.kind, header.name.endswith(b"/")
    if kind == OLD_FILE:
        kind = DIRECTORY if is_folder_name else FILE
    if kind != DIRECTORY and is_folder_name:
        raise refusal(header.name, "is no folder, but its name ends in '/'")
    if kind not in (FILE, SPARSE) and header.size:
        raise refusal(header.name, "is a folder or link, but has data")
    return replace(header, kind=kind)


def _skip_padding(size: int, source: Source) -> None:
    padding = -size % BLOCK_BYTES
    if len(source.read(padding)) < padding:
        raise archive_refusal("is cut short in the middle of a member", _CUT_SHORT)


def _expect_end(source: Source) -> None:
    """Behind the first zero block: a second one, then nothing but the padding of tar's last record."""
    second = source.read(BLOCK_BYTES)
    if len(second) < BLOCK_BYTES:
        raise archive_refusal("is cut short: it has half an end mark", _CUT_SHORT)
    padding, chunk = 0, second
    while chunk:
        padding += len(chunk)
        if chunk.count(0) != len(chunk):
            raise archive_refusal("has data after its end mark", "Concatenated archives are not read.")
        if padding > _PADDING_BYTES:
            raise archive_refusal(f"has more than {_PADDING_BYTES} bytes of padding at its end")
        chunk = source.take(_PADDING_BYTES)


def _write(tree: Tree, header: Header, source: Source, limits: Limits) -> None:
    path = parse_name(header.name, limits)
    if header.kind == DIRECTORY:
        tree.add_directory(path)
    elif header.kind == HARD_LINK:
        tree.add_hard_link(path, parse_name(header.link, limits))
    elif header.kind == SYMLINK:
        tree.add_symlink(path, parse_text(header.name, header.link, "link target", limits))
    elif header.extents is not None:
        tree.add_sparse_file(path, header.size, sparse.pieces(header, source), bool(header.mode & 0o100))
    else:
        tree.add_file(path, header.size, source.chunks(header.size), bool(header.mode & 0o100))
