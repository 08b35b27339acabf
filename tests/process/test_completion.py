"""The completion scripts in a real bash and a real zsh."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

import build

COMMAND = "ant-host-agent.pyz"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A PATH on which the command is: the real one for `completion`, and for `status` one that knows two projects."""
    command = tmp_path / COMMAND
    command.write_text(
        f'#!/bin/sh\n[ "$1" = status ] && printf "PROJECT\\tSTATE\\nhello\\tready\\nhouse\\tready\\n" && exit\n'
        f'exec {sys.executable} -m agent "$@"\n'
    )
    command.chmod(0o755)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": build.ROOT, "HOME": str(tmp_path), "LC_ALL": "C"}


def shell(name: str, script: str, environ: dict[str, str]) -> List[str]:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    flags = ["--norc"] if name == "bash" else ["-f"]
    done = subprocess.run([path, *flags, "-c", script], env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("la", ["launch"]),
        ("re", ["restart"]),
        ("kill h", ["hello", "house"]),
        ("kill --p", ["--purge"]),
        ("--url http://h logs ho", ["house"]),
        ("completion z", ["zsh"]),
        ("serve --li", ["--listen"]),
    ],
)
def test_bash(words: str, expected: List[str], environ: dict[str, str]) -> None:
    count = len(words.split())
    script = (
        f'eval "$({COMMAND} completion bash)"; COMP_WORDS=({COMMAND} {words}); COMP_CWORD={count}; '
        f"_ant_host_agent {COMMAND}; printf '%s\\n' \"${{COMPREPLY[@]}}\"; complete -p {COMMAND} >/dev/null"
    )
    assert shell("bash", script, environ) == expected


@pytest.mark.parametrize(
    ("words", "expected"), [("la", "launch"), ("kill h", "house"), ("kill --p", "--purge"), ("serve --li", "--listen")]
)
def test_zsh(words: str, expected: str, environ: dict[str, str]) -> None:
    """zsh matches by itself; what is offered must hold the word."""
    script = (
        "compdef() { :; }; compadd() { shift; print -l -- $@; }; _files() { :; }; "
        f'eval "$({COMMAND} completion zsh)"; words=({COMMAND} {words}); CURRENT=$#words; _ant_host_agent'
    )
    assert expected in shell("zsh", script, environ)
