"""What the READMEs show is what is there: pictures equal the tables, and every command block names what runs it."""

from __future__ import annotations

import os
import re

import pytest

import build
from tests.architecture import sources
from tests.architecture.pictures import READMES, redrawn, reduced

#: What stands right above a command block: a walk of tests/e2e/test_readme.py, or the file that runs it.
_RUN_BY = re.compile(r"<!-- (?:walk \w+|tested by (?P<path>\S+)) -->")


@pytest.mark.parametrize("path", READMES)
def test_pictures_equal_the_tables(path: str) -> None:
    text = sources.read(path)
    assert redrawn(text, READMES[path]) == text, "redraw them: python3 -m tests.architecture.pictures"


def test_a_changed_picture_is_found() -> None:
    text = sources.read("README.md")
    assert redrawn(text.replace("starting --> running: executed", "starting --> running: guessed"), ["states"]) == text


def test_arrows_that_follow_from_others_are_left_out() -> None:
    assert reduced({("a", "b"), ("b", "c"), ("a", "c")}) == {("a", "b"), ("b", "c")}
    with pytest.raises(ValueError, match="circle"):
        reduced({("a", "b"), ("b", "a")})


def test_every_command_block_runs_somewhere() -> None:
    lines = sources.read("README.md").splitlines()
    blocks = [number for number, line in enumerate(lines) if line in ("```sh", "```bash", "```console", "```python")]
    assert blocks
    for number in blocks:
        marker = _RUN_BY.fullmatch(lines[number - 1])
        assert marker, f"README.md:{number + 1}: write above it which test runs it, as the other blocks have it"
        path = marker["path"]
        assert path is None or os.path.exists(os.path.join(build.ROOT, path)), f"README.md:{number}: there is no {path}"
