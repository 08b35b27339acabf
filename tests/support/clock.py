"""A host whose wall clock a test sets: an agent, with all that is forked from it, that goes by a file."""

from __future__ import annotations

import os

from tests.support import bundles, faults
from tests.support.agent import AgentHost

_BENT = b'''
import time

def _bend(real, path):
    def bent():
        try:
            with open(path, encoding="ascii") as file:
                return real() + float(file.read())
        except FileNotFoundError:
            return real()
    time.time = bent

_bend(time.time, %r)
'''


def bend(pyz: str, host: AgentHost) -> str:
    """The zipapp with a clock that `jump` sets.

    libfaketime would need to be loaded into every process, and shares a semaphore that a SIGKILL leaves locked.
    """
    return bundles.release(pyz, host.base, "bent", appended=(faults.FILES, _BENT % _path(host)))


def jump(host: AgentHost, offset_seconds: float) -> None:
    """From now on the host's clock is that far from the real one."""
    with open(f"{_path(host)}.new", "w", encoding="ascii") as file:
        file.write(str(offset_seconds))
    os.replace(f"{_path(host)}.new", _path(host))


def _path(host: AgentHost) -> str:
    return os.path.join(host.base, "clock")
