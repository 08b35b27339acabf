"""Before its first fork the agent's shim rehearses without touching what is real, and leaves no holes in its memory.

Each in an interpreter of its own: what gc.freeze takes it never gives back, and a subreaper stays one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import build

#: Makes holes, may fill them, and makes objects: prints how many, and how many of them lie in the pools that had holes.
HOLES = """
from agent.shim import rehearsal
size, pool_bytes = {size}, rehearsal._POOL_BYTES
plain = size - rehearsal._BYTES_BYTES
all_of_them = [bytes(plain) for _ in range(4 * pool_bytes // size)]
kept = all_of_them[::2]
pools = {{id(one) // pool_bytes for one in all_of_them}}
del all_of_them
{settle}
made = [bytes(plain) for _ in range(pool_bytes // size // 2)]
print(len(made), sum(id(one) // pool_bytes in pools for one in made))
"""

#: With a child that has ended and nobody has waited for.
BESIDE_A_CHILD = """
import os
from agent.shim import rehearsal
from agent.store.layout import ProjectLayout
layout = ProjectLayout({root!r}, "ant-host-agent")
os.makedirs(layout.rehearsal + "/logs")  # of one that was killed
before = sorted(os.listdir("/proc/self/fd"))
pid = os.fork()
if pid == 0:
    os._exit(7)
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
rehearsal.rehearse(layout)
assert os.waitpid(pid, 0) == (pid, 7 << 8)
assert os.listdir(layout.root) == []
assert sorted(os.listdir("/proc/self/fd")) == before
"""

ON_A_DISK_THAT_REFUSES = """
from agent.shim import rehearsal
from agent.store.layout import ProjectLayout
rehearsal.rehearse(ProjectLayout({root!r}, "ant-host-agent"))
print("goes on")
"""


def _run(script: str) -> subprocess.CompletedProcess[str]:
    whole = f"import sys; sys.path.insert(0, {build.ROOT!r})\n{script}"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", whole], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def _in_holes(size: int, settle: str) -> float:
    """The share of objects made that went into holes."""
    made, in_holes = map(int, _run(HOLES.format(size=size, settle=settle)).stdout.split())
    return in_holes / made


@pytest.mark.parametrize("size", [48, 80, 208, 512])
def test_what_is_made_after_it_fills_no_holes(size: int) -> None:
    assert _in_holes(size, "rehearsal.settle()") <= 0.25  # what ended meanwhile has left some


@pytest.mark.parametrize("size", [48, 80, 208, 512])
def test_without_it_holes_are_filled_first(size: int) -> None:
    assert _in_holes(size, "") >= 0.75


def test_the_rehearsal_leaves_no_trace_and_reaps_no_child_of_others(tmp_path: Path) -> None:
    assert _run(BESIDE_A_CHILD.format(root=str(tmp_path))).stderr == ""


def test_a_disk_that_refuses_costs_the_rehearsal_only(tmp_path: Path) -> None:
    (tmp_path / "rehearsal").write_text("no folder")
    done = _run(ON_A_DISK_THAT_REFUSES.format(root=str(tmp_path)))
    assert f"{tmp_path}/rehearsal: " in done.stderr
    assert done.stdout == "goes on\n"
