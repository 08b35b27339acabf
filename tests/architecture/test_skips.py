"""The policy of tests/conftest.py: in CI a skip without a known reason fails, and slow tests have to be asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import build

SAMPLE = """
import pytest

@pytest.mark.skip(reason="{reason}")
def test_marked():
    pass

def test_inside():
    pytest.skip("{reason}")

@pytest.mark.slow
def test_slow():
    pass
"""
MODULE = """
import pytest
pytest.skip("{reason}", allow_module_level=True)
"""


def outcome(path: Path, text: str, **environ: str) -> str:
    """The closing line of a pytest with the policy as a plugin and this one test file.

    A skip by mark happens in the set-up, so where it is refused it is an error, not a failure.
    """
    path.write_text(text)
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "ANT_SLOW")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-o", f"cache_dir={path.parent}",
         "--rootdir", build.ROOT, "-c", os.path.join(build.ROOT, "pyproject.toml"), str(path)],
        cwd=build.ROOT, env={**kept, **environ}, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.stdout.splitlines()[-1].partition(" in ")[0]


@pytest.mark.parametrize(
    ("environ", "reason", "closing"),
    [
        ({}, "no time", "1 passed, 2 skipped"),
        ({"CI": "true"}, "no time", "1 failed, 1 deselected, 1 error"),
        ({"CI": "true"}, "needs root", "2 skipped, 1 deselected"),
        ({"CI": "true", "ANT_SLOW": "1"}, "needs root", "1 passed, 2 skipped"),
        ({"CI": "true"}, "needs root access, really", "1 failed, 1 deselected, 1 error"),
    ],
)
def test_a_skip_needs_a_known_reason(tmp_path: Path, environ: dict[str, str], reason: str, closing: str) -> None:
    assert outcome(tmp_path / "test_sample.py", SAMPLE.format(reason=reason), **environ) == closing


def test_a_whole_module_needs_one_too(tmp_path: Path) -> None:
    path = tmp_path / "test_sample.py"
    assert outcome(path, MODULE.format(reason="no time"), CI="true") == "1 error"
    assert outcome(path, MODULE.format(reason="strace is not installed"), CI="true") == "1 skipped"
