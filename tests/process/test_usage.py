"""What a tree uses is the same whether it is walked down or found among all processes of the host."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Iterator

import pytest

from agent.host.usage import Processes
from tests.support import processes
from tests.support.wait import eventually

#: Children of the first thread and of a second one, a grandchild, and one that goes to whoever is above as its parent ends.
TREE = """
import ctypes, os, sys, threading, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
def child(depth):
    if os.fork() == 0:
        if depth:
            child(depth - 1)
        time.sleep(1000)
child(1)
thread = threading.Thread(target=lambda: (child(0), time.sleep(1000)), daemon=True)
thread.start()
middle = os.fork()
if middle == 0:
    child(0)
    os._exit(0)
os.waitpid(middle, 0)
print("up", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def tree() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", TREE], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    eventually(lambda: len(processes.tree(process.pid)) == 4, message="all of the tree")
    yield process.pid
    below = processes.tree(process.pid)
    process.kill()
    process.wait()
    process.stdout.close()
    processes.kill_all(below)


def test_walked_down_or_found_among_all(tree: int) -> None:
    walked, found = Processes([tree]), Processes()
    assert walked.use([tree]).processes == found.use([tree]).processes == 5
    below = sorted(walked.below(tree))
    assert below == sorted(found.below(tree)) and len(below) == 3
    assert walked.use([tree]).memory_bytes > 1 << 20


def test_a_kernel_that_does_not_tell_children(tree: int, monkeypatch: pytest.MonkeyPatch) -> None:
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: exists(path) and not str(path).endswith("/children"))
    assert Processes([tree]).use([tree]).processes == 5


def test_what_is_gone_uses_nothing() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert Processes([ended.pid]).use([ended.pid]).processes == 0
