"""What makes forked shims small: that they write to few pages of the memory that they share.

CPython 3.9 to 3.13 keeps objects of up to 512 bytes in pools, one for each size in steps of 16 (Objects/obmalloc.c);
larger ones are malloc(3)'s. A fork that makes an object writes into a hole of some old pool, and so does the next of another
size. `settle` fills the holes first: what forks make then comes into pools that hold nothing else, in a row.
Python also writes to a function's code when it has been called a few times (PEP 659), to the caches of types at the first
look-up, and to where libraries find each other at the first call. `rehearse` gets that done before there are forks.
None of this is needed for anything but memory.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import List

from agent.host import files, prctl
from agent.shim.capture import Capture
from agent.shim.record import POKE
from agent.shim.resident import Answer, Seen, in_a_fork, note, reside
from agent.store.layout import ProjectLayout
from agent.store.segments import prepare

#: From the eighth call on CPython 3.11 has a function specialized; later ones are quicker.
_ROUNDS = 10
_STEP_BYTES, _LARGEST_BYTES = 16, 512
_POOL_BYTES = 16384 if sys.version_info >= (3, 10) else 4096
#: At a pool's begin.
_HEADER_BYTES = 48
_NUMBER_BYTES = 32
#: Of objects of one size, if all else fails.
_MOST = 4096
#: The size of an empty bytes object.
_BYTES_BYTES = sys.getsizeof(b"")
_kept: List[object] = []


def get_ready(layout: ProjectLayout) -> None:
    """All of it, once; `layout` is the agent's own."""
    if _kept:
        return
    rehearse(layout)
    note(POKE, None)  # should one have come meanwhile
    settle()


def rehearse(layout: ProjectLayout) -> None:
    """Be a project's shim a few times, in a folder of its own. A disk that refuses costs the rehearsal."""
    root = layout.rehearsal
    try:
        files.make_directory(root)  # it may be there, of a shim that was killed
        scene = ProjectLayout(root, "rehearsal")
        number = prepare(scene)
        for _ in range(_ROUNDS):
            _live(scene, number)
            prctl.set_subreaper()
        for folder, _, names in os.walk(root, topdown=False):
            for name in names:
                os.unlink(f"{folder}/{name}")
            os.rmdir(folder)
    except OSError as error:
        sys.stderr.write(f"{root}: {error.strerror}\n")


def _live(layout: ProjectLayout, number: int) -> None:
    """A shim's life, but for what belongs to this process: its signals, and its children."""
    capture = Capture(layout, number)
    os.write(capture.reader, b"\n")
    reside(capture, -1, in_a_fork(_turn, capture, lambda: False), reap=lambda usage: ([], False))
    capture.close()


def _turn(seen: Seen) -> Answer:
    return Answer(due=1e-6) if seen.arriving else Answer(done=True)


def settle() -> None:
    """Fill the holes, and let no collection touch what is there now (gc.freeze)."""
    gc.collect()  # it also empties the free lists, whose members lie anywhere
    for size in range(_STEP_BYTES, _LARGEST_BYTES + 1, _STEP_BYTES):
        _fill(size)
    gc.freeze()


def _fill(size: int) -> None:
    """Make objects of that size until a pool's first half is full of them, side by side: it is a new one. Keep the others."""
    gap = size * (4 if size == _NUMBER_BYTES else 1)  # the numbers used here are such objects, too
    run = last = 0
    for _ in range(_MOST):
        _kept.append(_object_of(size))
        at = id(_kept[-1])
        if at % _POOL_BYTES < _HEADER_BYTES + gap:
            run = 1
        else:
            run = run + 1 if run and last < at <= last + gap else 0
        if run and at % _POOL_BYTES >= _POOL_BYTES // 2:
            del _kept[-run:]
            return
        last = at


def _object_of(size: int) -> object:
    if size == _STEP_BYTES:
        return object()
    if size == _NUMBER_BYTES:
        return 0.1 * len(_kept)
    return bytes(size - _BYTES_BYTES)
