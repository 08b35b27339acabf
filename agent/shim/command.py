"""A command of a release that is run to its end: a hook, or a check of readiness.

It counts as ended when its first process does, whoever still holds its output open; what it leaves behind is killed.
"""

from __future__ import annotations

import os
import select
import time
from dataclasses import dataclass
from typing import Mapping, Optional, Sequence

from agent.errors import ArtifactFault
from agent.host import files
from agent.model import ExitCause, Release
from agent.shim.environment import environment
from agent.shim.errand import descendants_ended
from agent.shim.rights import lend
from agent.shim.tree import cause_of, spawn
from agent.store.layout import ProjectLayout

#: How much of the output is kept for the reply.
TAIL_BYTES = 4096
_LOOK_MILLISECONDS = 20
_READ_BYTES = 1 << 16
_READS = 64


@dataclass(frozen=True)
class Ran:
    """How it ended (None: it was killed at its deadline), its last output, how many processes it left behind."""

    cause: Optional[ExitCause]
    output: bytes
    seconds: float
    left: int


def run_to_end(
    release: Release, layout: ProjectLayout, command: Sequence[str], timeout_seconds: float, copy_to: Optional[int] = None,
    environ: Optional[Mapping[str, str]] = None, keep_bytes: int = TAIL_BYTES,
) -> Ran:  # fmt: skip
    """Run it in the release with the project's environment (and `environ`), output also going to the descriptor `copy_to`.

    The last `keep_bytes` of that are kept. OSError when it can't be forked, ArtifactFault when its user is gone.
    """
    began = time.monotonic()
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    try:
        rights = lend(release, layout, writer)
        whole = {**(environ or {}), **environment(release, layout)}
        spawned = spawn(command, layout.release(release.version), whole, writer, {}, rights)
    except (OSError, ArtifactFault):
        os.close(reader)
        raise
    finally:
        os.close(writer)
    cause: Optional[ExitCause] = spawned.release()
    has_ended = cause is not None
    output = b""
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    while not has_ended and time.monotonic() - began < timeout_seconds:
        if any(event == select.POLLHUP for _, event in poll.poll(_LOOK_MILLISECONDS)):
            poll.modify(reader, 0)  # nobody holds it any more: only the end is left to wait for
        pid, status = os.waitpid(spawned.pid, os.WNOHANG)
        if pid:
            cause, has_ended = cause_of(status), True
        output = _taken(reader, output, copy_to, keep_bytes)
    left = len(set(descendants_ended()) - {spawned.pid})
    output = _taken(reader, output, copy_to, keep_bytes)
    os.close(reader)
    return Ran(cause, output, time.monotonic() - began, left)


def _taken(reader: int, output: bytes, copy_to: Optional[int], keep_bytes: int) -> bytes:
    """What there is to read now, at the end of what is kept; of a flood a part, so that the deadline is looked at."""
    for _ in range(_READS):
        try:
            data = os.read(reader, _READ_BYTES)
        except BlockingIOError:
            return output
        if not data:
            return output
        if copy_to is not None:
            files.write_all(copy_to, data)
        output = (output + data)[-keep_bytes:]
    return output
