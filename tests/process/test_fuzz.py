"""Archives changed at random: taken or refused, and nothing outside. Always the same ones; atheris finds others by hand."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest

import build
from tests.support import fuzzing

ATTEMPTS = 1500


@pytest.fixture
def folder() -> Iterator[str]:
    made = fuzzing.new_folder()
    yield made
    shutil.rmtree(made)


def test_whatever_is_changed_it_is_taken_or_refused(folder: str) -> None:
    chance = random.Random(4)
    seeds = fuzzing.seeds()
    taken = sum(fuzzing.attempt(fuzzing.mutate(chance.choice(seeds), chance), folder) for _ in range(ATTEMPTS))
    assert 0 < taken < ATTEMPTS, "it has to get both ways"


@pytest.mark.slow
def test_atheris_finds_nothing_in_a_minute(tmp_path: Path) -> None:
    if subprocess.run([sys.executable, "-c", "import atheris"], stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("atheris is not installed")
    words = [sys.executable, "-m", "tests.support.fuzzing", "-max_total_time=60", f"-artifact_prefix={tmp_path}/", str(tmp_path)]
    done = subprocess.run(words, cwd=build.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "DONE" in done.stderr
