"""Archives changed at random: taken or refused, and nothing outside. Always the same ones in CI; by hand atheris finds others."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Dict, Iterator, Sequence

import pytest

import build
from tests.support import fuzzing

ATTEMPTS = 1500
#: Of atheris, in CI.
RUNS = 8000


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


@pytest.fixture(scope="module")
def atheris(interpreters: Dict[str, str]) -> str:
    """A Python, the newest there is, that has atheris; in an environment of its own."""
    version, interpreter = list(interpreters.items())[-1]
    environment = os.path.join(build.CACHE, f"atheris-{version}")
    python = os.path.join(environment, "bin", "python")
    requirements = os.path.join(build.ROOT, "tests", "support", "atheris.txt")
    make = [interpreter, "-m", "venv", "--clear", environment]
    install = [python, "-m", "pip", "install", "-q", "--only-binary", ":all:", "--require-hashes", "-r", requirements]
    try:
        if not os.path.exists(python) or _run([python, "-c", "import atheris"]).returncode:
            for command in (make, install):
                done = _run(command)
                if done.returncode:
                    pytest.skip(f"atheris can't be installed here: {done.stderr[-2000:]}")
    except OSError as error:
        pytest.skip(f"atheris can't be installed here: {error}")
    return python


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.run(command, cwd=build.ROOT, env=environ, capture_output=True, text=True, check=False)


def fuzz(python: str, folder: Path, *words: str) -> int:
    """Let atheris run; how often it did. What it finds lies in the folder, and is shown."""
    (folder / "corpus").mkdir()
    options = [f"-artifact_prefix={folder}/", "-rss_limit_mb=1024", *words, str(folder / "corpus")]
    done = _run([python, "-m", "tests.support.fuzzing", *options])
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert (done.returncode, found) == (0, {}), done.stderr[-4000:]
    return int(re.findall(r"Done (\d+) runs", done.stderr)[-1])


def test_atheris_finds_nothing_in_the_same_runs_as_ever(atheris: str, tmp_path: Path) -> None:
    assert fuzz(atheris, tmp_path, "-seed=4", f"-runs={RUNS}") >= RUNS


@pytest.mark.slow
def test_atheris_finds_nothing_in_a_minute(atheris: str, tmp_path: Path) -> None:
    """Other runs each time, if `ANT_FUZZ_SECONDS` says so for longer."""
    seconds = os.environ.get("ANT_FUZZ_SECONDS", "60")
    assert fuzz(atheris, tmp_path, f"-max_total_time={seconds}") > 0
