"""The same sources give the same bytes, whoever builds them, where and when."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Callable, Dict

import pytest

import build

Run = Callable[..., "subprocess.CompletedProcess[str]"]

#: umask, PYTHONHASHSEED, and what every file's time is set to; one row for each interpreter, in turn.
SURROUNDINGS = ((0o022, "0", 0), (0o077, "1", 1_000_000_000), (0o000, "4711", 2_000_000_000), (0o027, "random", 1))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what a build reads, cached wheels included."""
    root = tmp_path / "first"
    shutil.copytree(os.path.join(build.ROOT, "agent"), root / "agent", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(os.path.join(build.CACHE, "wheels"), root / ".cache" / "wheels")
    shutil.copy(os.path.join(build.ROOT, "build.py"), root)
    return root


def built(run: Run, python: str, root: Path, umask: int, seed: str) -> str:
    """The digest of what this interpreter builds of the tree."""
    shell = f'umask {umask:o}; exec "$0" "$@"'
    environ = {"PATH": os.defpath, "PYTHONHASHSEED": seed}
    done = run("/bin/sh", "-c", shell, python, str(root / "build.py"), "build", env=environ)
    assert done.returncode == 0, done.stderr
    return hashlib.sha256((root / "dist" / "ant-host-agent.pyz").read_bytes()).hexdigest()


def test_every_python_builds_the_same_bytes(tree: Path, run: Run, interpreters: Dict[str, str]) -> None:
    digests = {}
    for index, (version, python) in enumerate(interpreters.items()):
        umask, seed, time = SURROUNDINGS[index % len(SURROUNDINGS)]
        for path in tree.rglob("*"):
            os.utime(path, (time, time))
        tree = tree.rename(tree.with_name(f"for-{version}"))
        digests[version] = built(run, python, tree, umask, seed)
    assert len(set(digests.values())) == 1, digests


def test_one_python_builds_the_same_bytes_in_other_surroundings(tree: Path, run: Run, python: str) -> None:
    digests = {built(run, python, tree, umask, seed) for umask, seed, _ in SURROUNDINGS}
    assert len(digests) == 1


def test_a_build_leaves_nothing_else_behind(tree: Path, run: Run, python: str) -> None:
    before = {str(path.relative_to(tree)) for path in tree.rglob("*")}
    built(run, python, tree, 0o022, "0")
    after = {str(path.relative_to(tree)) for path in tree.rglob("*")}
    assert after - before == {"dist", "dist/ant-host-agent.pyz"}
