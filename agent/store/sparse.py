"""Sparse files in a tar: GNU tar's own kind (type S) and versions 0.1 and 1.0 of its pax kind (tar's manual, "Sparse Formats").

The map says where each piece of the stored bytes belongs; between them are holes. It is as strictly read as a header: pieces
in order, none on another, none behind the end, and as many bytes as are stored.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, Iterator, List, Tuple

from agent.store.decompress import Source
from agent.store.limits import Limits
from agent.store.names import refusal
from agent.store.tarheader import BLOCK_BYTES, FILE, GNU_MAGIC, SPARSE, Extents, Header, read_number

_PREFIX = b"GNU.sparse."
#: Of type S: four pieces in the header and 21 in each block that follows it, 24 bytes each.
_MAP_AT, _MAP_PIECES, _MAP_GOES_ON_AT, _SIZE_AT = 386, 4, 482, 483
_BLOCK_PIECES, _BLOCK_GOES_ON_AT = 21, 504
_HINT = "Pack without --sparse."


def resolve(header: Header, block: bytes, pax: Dict[bytes, bytes], source: Source, limits: Limits) -> Header:
    """A sparse file's header with `size`, `stored` and `extents` as its map says, which is read here; any other as it is."""
    keys = {key[len(_PREFIX) :]: value for key, value in pax.items() if key.startswith(_PREFIX)}
    if header.kind == SPARSE:
        if keys:
            raise refusal(header.name, "is a sparse file in two ways", _HINT)
        return _checked(_old(header, block, source, limits))
    if not keys:
        return header
    name = keys.pop(b"name", header.name)
    if header.kind != FILE or (b"path" in pax and not _stands_for(pax[b"path"], name)):
        raise refusal(header.name, "has a sparse map that is not its own", _HINT)
    header = replace(header, name=name)
    if (keys.get(b"major"), keys.get(b"minor")) == (b"1", b"0") and set(keys) == {b"major", b"minor", b"realsize"}:
        numbers, map_bytes = _map_in_front(header, source, limits)
        size = _decimal(header, keys[b"realsize"])
        return _checked(replace(header, size=size, stored=header.stored - map_bytes, extents=_pairs(header, numbers)))
    if set(keys) == {b"size", b"numblocks", b"map"}:
        extents = _pairs(header, [_decimal(header, number) for number in keys[b"map"].split(b",")])
        if _decimal(header, keys[b"numblocks"]) != len(extents):
            raise _damaged(header)
        return _checked(replace(header, size=_decimal(header, keys[b"size"]), extents=extents))
    raise refusal(header.name, "is a sparse file of a kind that is not read here", _HINT)


def pieces(header: Header, source: Source) -> Iterator[Tuple[int, bytes]]:
    """What is stored, each chunk with its offset in the file."""
    for offset, count in header.extents or ():
        for chunk in source.chunks(count):
            yield offset, chunk
            offset += len(chunk)


def _old(header: Header, block: bytes, source: Source, limits: Limits) -> Header:
    if block[257:265] != GNU_MAGIC:
        raise _damaged(header)
    extents = _old_pieces(header, block[_MAP_AT:], _MAP_PIECES)
    goes_on, map_bytes = block[_MAP_GOES_ON_AT], 0
    while goes_on:
        following = source.read(BLOCK_BYTES)
        map_bytes += BLOCK_BYTES
        if len(following) < BLOCK_BYTES or map_bytes > limits.sparse_bytes:
            raise _damaged(header)
        extents += _old_pieces(header, following, _BLOCK_PIECES)
        goes_on = following[_BLOCK_GOES_ON_AT]
    size = read_number(block[_SIZE_AT : _SIZE_AT + 12], header.name, "size")
    return replace(header, kind=FILE, size=size, extents=tuple(extents))


def _old_pieces(header: Header, data: bytes, count: int) -> List[Tuple[int, int]]:
    found = []
    for at in range(0, 24 * count, 24):
        if data[at : at + 24] == bytes(24):
            break
        pair = (read_number(data[at + part : at + part + 12], header.name, "sparse map") for part in (0, 12))
        found.append((next(pair), next(pair)))
    return found


def _stands_for(path: bytes, name: bytes) -> bool:
    """Whether a path is what GNU tar calls the file of that name for readers that know no sparse files."""
    folder, _, last = path.rpartition(b"/")
    return folder.rpartition(b"/")[2].startswith(b"GNUSparseFile.") and last == name.rpartition(b"/")[2]


def _map_in_front(header: Header, source: Source, limits: Limits) -> Tuple[List[int], int]:
    """The numbers of the map that the data begins with, decimal, a line each, the first their count; and its bytes."""
    data, wanted = b"", 1
    lines: List[bytes] = []
    while len(lines) <= wanted:
        block = source.read(BLOCK_BYTES)
        data += block
        if len(block) < BLOCK_BYTES or len(data) > min(limits.sparse_bytes, header.stored):
            raise _damaged(header)
        lines = data.split(b"\n")
        wanted = 1 + 2 * _decimal(header, lines[0]) if len(lines) > 1 else 1
    if b"\n".join(lines[wanted:]).strip(b"\0"):
        raise _damaged(header)
    return [_decimal(header, line) for line in lines[1:wanted]], len(data)


def _pairs(header: Header, numbers: List[int]) -> Extents:
    if len(numbers) % 2:
        raise _damaged(header)
    return tuple(zip(numbers[::2], numbers[1::2]))


def _decimal(header: Header, text: bytes) -> int:
    if not text.isdigit() or len(text) > 18:
        raise _damaged(header)
    return int(text)


def _checked(header: Header) -> Header:
    end = 0
    for offset, count in header.extents or ():
        if offset < end:
            raise _damaged(header)
        end = offset + count
    if end > header.size or sum(count for _, count in header.extents or ()) != header.stored:
        raise _damaged(header)
    return header


def _damaged(header: Header) -> Exception:
    return refusal(header.name, "has a damaged sparse map", _HINT)
