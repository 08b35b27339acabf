"""An artifact that came without the files that this host has already: made whole again from the releases of its project.

What was left out is told as `[offset, size, sha256]` stretches of the whole artifact, whatever its format. They are copied, never
linked: a running project may write to its release, and no other one may change with it. The digest of the whole decides.
"""

from __future__ import annotations

import hashlib
import os
import stat
from functools import partial
from typing import Any, BinaryIO, Dict, Iterable, Iterator, List, Mapping, Sequence, Set, Tuple

from agent.errors import Conflict, MalformedRequest
from agent.model import parse_digest
from agent.store import releases
from agent.store.decompress import Source
from agent.store.layout import ProjectLayout
from agent.store.limits import DEFAULT, Budget

_CHUNK_BYTES = 1 << 18
_NAME = "left_out"
_HINT = 'Write {"left_out": [[offset, size, "sha256"], …]} by rising offsets, of the whole artifact.'

#: (offset in the whole artifact, size, SHA-256 of these bytes)
Stretch = Tuple[int, int, str]


def parse(value: object) -> List[Stretch]:
    """The stretches in JSON, rising and apart. MalformedRequest says which is none."""
    if not isinstance(value, list) or len(value) > DEFAULT.entries:
        raise MalformedRequest(f"{_NAME}: it is no list of at most {DEFAULT.entries} stretches.", _HINT)
    found: List[Stretch] = []
    end = 0
    for index, entry in enumerate(value):
        stretch = _stretch(entry)
        if stretch is None or stretch[0] < end:
            raise MalformedRequest(f"{_NAME}[{index}]: it is no stretch behind the one before.", _HINT)
        found.append(stretch)
        end = stretch[0] + stretch[1]
    return found


def _stretch(entry: object) -> Any:
    """The entry as a Stretch, or None."""
    if not isinstance(entry, list) or len(entry) != 3:
        return None
    offset, size, digest = entry
    if not all(type(number) is int and 0 <= number <= DEFAULT.total_bytes for number in (offset, size)):
        return None
    return offset, size, parse_digest(digest)


def held(layout: ProjectLayout, wanted: Iterable[Tuple[int, str]]) -> Dict[str, str]:
    """Where this project's releases have files of that (size, SHA-256): digest → path. Only files of such a size are read."""
    missing: Dict[int, Set[str]] = {}
    for size, digest in wanted:
        missing.setdefault(size, set()).add(digest)
    found: Dict[str, str] = {}
    for version in reversed(releases.versions(layout)):
        if not any(missing.values()):
            break
        for path, size in _files(layout.release(version)):
            if missing.get(size):
                digest = _digest(path)
                if digest in missing[size]:
                    missing[size].discard(digest)
                    found[digest] = path
    return found


def _files(directory: str) -> Iterator[Tuple[str, int]]:
    for base, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(base, name)
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode):
                yield path, status.st_size


def _open(path: str) -> BinaryIO:
    """A running project may put anything there at any time: no link is followed, and no pipe is waited for."""
    return open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def _digest(path: str) -> str:
    """'' for what can't be read any more."""
    found = hashlib.sha256()
    try:
        with _open(path) as file:
            for data in iter(lambda: file.read(_CHUNK_BYTES), b""):
                found.update(data)
    except OSError:
        return ""
    return found.hexdigest()


def assemble(layout: ProjectLayout, rest_path: str, left_out: Sequence[Stretch], path: str) -> Tuple[str, int]:
    """Write the whole artifact to `path`; its SHA-256 and size. Conflict with `lacking` when the host has not all of it.

    `rest_path` has what is left of the artifact, plain or compressed. ArtifactFault and StorageFull as in unpacking.
    """
    places = held(layout, ((size, digest) for _, size, digest in left_out))
    lacking = [digest for _, _, digest in left_out if digest not in places]
    if lacking:
        raise Conflict(
            f"{_NAME}: this host does not have {len(lacking)} of the {len(left_out)} files that were left out.",
            "Send the whole artifact; POST /project/<id>/have tells what is lacking.", lacking=lacking, step="assemble",
        )  # fmt: skip
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        with open(rest_path, "rb") as rest, open(path, "xb") as whole:
            return _write(Source(rest), whole, left_out, places, Budget(DEFAULT, folder))
    finally:
        os.close(folder)


def _write(
    rest: Source, whole: BinaryIO, left_out: Sequence[Stretch], places: Mapping[str, str], budget: Budget
) -> Tuple[str, int]:  # fmt: skip
    found, size = hashlib.sha256(), 0
    for data in _pieces(rest, left_out, places):
        budget.take_bytes(len(data))
        budget.check_clock()
        found.update(data)
        whole.write(data)
        size += len(data)
    return found.hexdigest(), size


def _pieces(rest: Source, left_out: Sequence[Stretch], places: Mapping[str, str]) -> Iterator[bytes]:
    at = 0
    for offset, size, digest in left_out:
        yield from rest.chunks(offset - at)
        with _open(places[digest]) as file:
            yield from iter(partial(file.read, _CHUNK_BYTES), b"")
        at = offset + size
    yield from iter(lambda: rest.take(_CHUNK_BYTES), b"")
