"""What a packed folder leaves out is what git would: asked of git itself, over made-up patterns and trees."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import List, Set

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.cli.pack import pack

FILES = ("a", "b.log", "ab.log", "x/a", "x/b.log", "x/y/a", "x/y/ab", "y/x/a", "y/b", "build/out/a", "!a", "#a", "a b", "[a]")
PIECES = st.sampled_from(
    [
        "a",
        "b",
        "x",
        "y",
        "ab",
        "*",
        "**",
        "?",
        "/",
        "/",
        "[ab]",
        "[!a]",
        "[^b]",
        "[a-y]",
        ".log",
        "build",
        "out",
        "!",
        "#",
        "\\",
        " ",
    ]
)
LINES = st.builds("".join, st.lists(PIECES, min_size=1, max_size=6))


def kept_by_git(folder: Path) -> Set[str]:
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", "ls-files", "-z", "--others", "--exclude-per-directory=.gitignore"],
        cwd=folder, env=environ, capture_output=True, check=True,
    )  # fmt: skip
    return set(done.stdout.decode().split("\0")) - {""}


def kept_by_us(folder: Path) -> Set[str]:
    file = io.BytesIO()
    pack(str(folder), file)
    file.seek(0)
    with tarfile.open(fileobj=file) as tar:
        return {member.name for member in tar if member.isreg()}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    folder = tmp_path_factory.mktemp("tree")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(top=st.lists(LINES, max_size=4), below=st.lists(LINES, max_size=2))
def test_as_git_does(tree: Path, top: List[str], below: List[str]) -> None:
    (tree / ".gitignore").write_text("\n".join(top))
    (tree / "x/.gitignore").write_text("\n".join(below))
    assert kept_by_us(tree) == kept_by_git(tree)
