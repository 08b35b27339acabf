"""Archives nobody thought of: changed at random, and read. They are taken or refused, and nothing happens outside.

Run as a program it is a target for atheris (a coverage-guided fuzzer, from PyPI), with libFuzzer's options:

    python -m tests.support.fuzzing -max_total_time=60 CORPUS
"""

from __future__ import annotations

import io
import os
import random
import shutil
import sys
import tempfile
from dataclasses import replace
from typing import List

from agent.errors import ArtifactFault, StorageFull
from agent.store import decompress, tarball, tarheader, zipball
from agent.store.limits import DEFAULT, MIB
from tests.support import archives, tarblocks, zipblocks

#: Small ones: a fuzzer is to find bugs, not bombs.
LIMITS = replace(DEFAULT, entries=500, total_bytes=4 * MIB, member_bytes=2 * MIB, reserve_bytes=0, reserve_inodes=0)
_SEED_BYTES = 64 << 10
_INTERESTING = (b"\0", b"\xff", b"/", b"../", b"7" * 8, b"\x80", b"PK\1\2", b"PK\5\6", b"GNU.sparse.map", b"path=", b"9" * 12)


def seeds() -> List[bytes]:
    """The hostile archives that are small, and some sound ones."""
    member = tarblocks.member(b"a", content=b"hello")
    sound = [
        member + tarblocks.member(b"d/l", b"2", link=b"../a") + tarblocks.member(b"h", b"1", link=b"a") + tarblocks.END,
        tarblocks.pax((b"path", b"n" * 120)) + member + tarblocks.END,
        zipblocks.make(zipblocks.Member(method=8), zipblocks.Member(b"d/b"), zipblocks.Member(b"l", b"a", zipblocks.LINK)),
    ]
    return sound + [data for data in (archive.data() for archive in archives.every()) if len(data) <= _SEED_BYTES]


def mutate(data: bytes, chance: random.Random) -> bytes:
    """The archive with a few bytes changed, put in, left out or doubled; a tar's checksums are mended, mostly."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        what, size = chance.randrange(4), chance.choice((1, 2, 8, 512))
        if what == 0:
            changed[at : at + 1] = bytes([chance.randrange(256)])
        elif what == 1:
            piece = chance.choice(_INTERESTING)
            changed[at : at + chance.choice((0, len(piece)))] = piece
        elif what == 2:
            del changed[at : at + size]
        else:
            changed[at:at] = changed[at : at + size]
    return bytes(changed) if chance.random() < 0.1 else mended(bytes(changed))


def mended(data: bytes) -> bytes:
    """With the right checksum in each block that is meant as a tar header, or a fuzzer would never get further."""
    blocks = [data[at : at + 512] for at in range(0, len(data), 512)]
    return b"".join(tarblocks.patched(block, {}) if block[257:262] == b"ustar" else block for block in blocks)


def attempt(data: bytes, folder: str) -> bool:
    """Read the archive into a new folder below this one, which has a canary; whether it was taken.

    AssertionError when something happened outside; any error but a refusal is a bug, and is raised.
    """
    release = f"{folder}/release"
    os.mkdir(release)
    try:
        if tarheader.is_header(data[:512]) or decompress.compression(data[:8]):
            tarball.extract(io.BytesIO(data), release, LIMITS)
        else:
            zipball.extract(io.BytesIO(data), release, LIMITS)
        _check_links(release)
        return True
    except (ArtifactFault, StorageFull):
        return False
    finally:
        assert sorted(os.listdir(folder)) == ["canary", "release"], data
        with open(f"{folder}/canary", "rb") as canary:
            assert canary.read() == b"alive" and os.fstat(canary.fileno()).st_nlink == 1, data
        shutil.rmtree(release)


def new_folder() -> str:
    """A folder with a canary."""
    folder = tempfile.mkdtemp(prefix="ant-fuzz-")
    with open(f"{folder}/canary", "wb") as canary:
        canary.write(b"alive")
    return folder


def _check_links(release: str) -> None:
    for folder, folders, names in os.walk(release):
        for name in (*folders, *names):
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                assert not os.lstat(path).st_mode & 0o7022, path
            else:
                inside = os.path.realpath(path)
                assert inside == release or inside.startswith(release + "/"), path


def _main() -> None:
    import atheris  # type: ignore[import-not-found]

    folder = new_folder()
    corpus = sys.argv[-1]
    os.makedirs(corpus, exist_ok=True)
    for number, seed in enumerate(seeds()):
        with open(f"{corpus}/{number}", "wb") as file:
            file.write(seed)
    atheris.instrument_all()
    atheris.Setup(sys.argv, lambda data: attempt(mended(data), folder))
    try:
        atheris.Fuzz()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    _main()
