"""build.py as a person meets it: what it says, and what it hands on."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Callable

import pytest

import build
from tests.conftest import find_interpreter

Run = Callable[..., "subprocess.CompletedProcess[str]"]

SCRIPT = os.path.join(build.ROOT, "build.py")


def test_it_explains_itself(run: Run, python: str) -> None:
    done = run(python, SCRIPT, "--help")
    assert done.returncode == 0
    assert all(f"build.py {command} " in done.stdout for command in build.COMMANDS)


@pytest.mark.parametrize(("words", "named"), [(["biuld"], "biuld"), (["check", "fast"], "fast"), (["build", "-v"], "-v")])
def test_a_wrong_call_is_named(run: Run, python: str, words: list[str], named: str) -> None:
    done = run(python, SCRIPT, *words)
    assert done.returncode == 2
    assert named in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_old_python_can_read_it() -> None:
    source = build.read(SCRIPT).decode()
    ast.parse(source, feature_version=(3, 6))
    assert source.isascii()
    assert "from __future__" not in source


def test_an_old_python_is_refused_in_one_sentence(run: Run) -> None:
    found = {version: path for version in ("2.7", "3.6", "3.7", "3.8") for path in [find_interpreter(version)] if path}
    if not found:
        pytest.skip("no Python older than 3.9 is on this machine")
    for version, python in found.items():
        done = run(python, SCRIPT, "build")
        assert done.returncode != 0, version
        assert build.NEEDED in done.stderr
        assert "Traceback" not in done.stderr


def test_dependencies_are_pinned_by_exact_version_and_hash() -> None:
    for dependency in build.DEPENDENCIES:
        assert dependency.version in dependency.wheel
        assert len(dependency.sha256) == 64


def test_tools_are_pinned_by_exact_version() -> None:
    lines = build.read(build.REQUIREMENTS).decode().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins
    assert all("==" in pin.partition(";")[0] for pin in pins)


def test_a_release_vouches_for_itself(run: Run, python: str, tmp_path: Path) -> None:
    shutil.copytree(os.path.join(build.ROOT, "agent"), tmp_path / "agent")
    shutil.copytree(os.path.join(build.CACHE, "wheels"), tmp_path / ".cache" / "wheels")
    shutil.copy(SCRIPT, tmp_path)
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "of-last-time").write_text("")
    done = run(python, str(tmp_path / "build.py"), "release")
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path / "dist")) == ["SHA256SUMS", "ant-host-agent.pyz", "release.json"]
    document = json.loads((tmp_path / "dist" / "release.json").read_text())
    content = (tmp_path / "dist" / "ant-host-agent.pyz").read_bytes()
    assert document["sha256"] == hashlib.sha256(content).hexdigest()
    assert document["size_bytes"] == len(content)
    assert document["version"] == build.version_of(str(tmp_path / "dist" / "ant-host-agent.pyz"))
    for line in (tmp_path / "dist" / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert digest == hashlib.sha256((tmp_path / "dist" / name).read_bytes()).hexdigest()
