"""The part of a shim that stays, when its turns fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import build
from agent.shim import resident

#: A shim in a process of its own: each of its turns tells of itself on the descriptor that it was given, and fails.
FAILS = """
import os, sys, time
from agent.host import files
from agent.shim.capture import Capture
from agent.shim.resident import in_a_fork, install_handlers, reside
from agent.store.layout import StoreLayout
from agent.store.segments import prepare

def turn(seen):
    os.write(1, b"%d\\n" % time.monotonic_ns())
    raise RuntimeError("this turn fails")

layout = StoreLayout(sys.argv[1]).project("fails")
files.make_directory(layout.root)
capture = Capture(layout, prepare(layout))
reside(capture, install_handlers(), in_a_fork(turn, capture, lambda: False))
"""


def test_a_turn_that_fails_is_not_taken_again_at_once(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FAILS, str(tmp_path)], cwd=build.ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as shim:
        assert shim.stdout is not None
        taken = [int(shim.stdout.readline()) for _ in range(3)]
        shim.kill()
    # its own end wakes the shim; and a turn needs no time at all, so that from the start of one to that of the next it waited
    waits = [(later - earlier) / 1e9 for earlier, later in zip(taken, taken[1:])]
    assert all(wait >= resident._RETRY_SECONDS * 2**tries for tries, wait in enumerate(waits)), waits
