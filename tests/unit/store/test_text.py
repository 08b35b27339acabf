"""Text from segments, against what str methods make of the same bytes; blocks are tiny, so that everything straddles them."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import List, Optional

import pytest

from agent.store import output as output_module
from agent.store import text as text_module
from agent.store.layout import ProjectLayout
from agent.store.output import Output
from agent.store.segments import segment_name
from agent.store.text import Text, tail_begin


@pytest.fixture(params=[7, 64, 1 << 16])
def layout(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProjectLayout:
    monkeypatch.setattr(output_module, "BLOCK_BYTES", request.param)
    monkeypatch.setattr(text_module, "BLOCK_BYTES", request.param)
    monkeypatch.setattr(text_module, "_STEP_BYTES", 3 * request.param)
    (tmp_path / "logs").mkdir()
    return ProjectLayout(str(tmp_path), "web")


def write(layout: ProjectLayout, number: int, content: bytes) -> None:
    with open(f"{layout.logs}/{segment_name(number)}", "ab") as file:
        file.write(content)


def cut(layout: ProjectLayout, content: bytes, dice: random.Random) -> None:
    """The content as segments of random sizes, some empty."""
    cuts = sorted(dice.randrange(len(content) + 1) for _ in range(4))
    for number, (begin, end) in enumerate(zip([0, *cuts], [*cuts, len(content)]), 3):
        write(layout, number, content[begin:end])


def drain(text: Text) -> bytes:
    """Everything up to the end, or, of one that follows, up to where it waits."""
    parts: List[bytes] = []
    while not text.waits:
        data = text.step()
        if data is None:
            break
        parts.append(data)
    text.waits = False
    return b"".join(parts)


def read(layout: ProjectLayout, tail: Optional[int] = None, grep: bytes = b"") -> bytes:
    output = Output(layout)
    begin = 0 if tail is None else tail_begin(output, 0, output.size, tail, grep)
    text = Text(output, begin, output.size, grep)
    data = drain(text)
    text.close()
    return data


def expected(content: bytes, tail: Optional[int] = None, grep: bytes = b"") -> bytes:
    lines = [line for line in content.split(b"\n") if grep in line]
    whole = [line + b"\n" for line in content.split(b"\n")]
    whole[-1] = whole[-1][:-1]
    lines = [line for line in whole if line and grep in line]
    return b"".join(lines if tail is None else lines[len(lines) - min(tail, len(lines)) :])


@pytest.mark.parametrize("seed", range(10))
def test_every_cut_of_random_lines(layout: ProjectLayout, seed: int) -> None:
    dice = random.Random(seed)
    content = bytes(dice.choice(b"ab\n\xff") for _ in range(dice.choice([0, 1, 50, 400])))
    cut(layout, content, dice)
    assert read(layout) == content
    for grep in (b"", b"a", b"aba", b"\xff\xff", b"bbbbb"):
        for tail in (None, 0, 1, 2, 7, 1000):
            assert read(layout, tail, grep) == expected(content, tail, grep), (grep, tail)


@pytest.mark.parametrize("grep", [b"", b"a", b"bb"])
def test_following_gives_the_same_as_reading_afterwards(layout: ProjectLayout, grep: bytes) -> None:
    dice = random.Random(grep)
    content = bytes(dice.choice(b"ab\n") for _ in range(900)) + b"\n"
    text = Text(Output(layout), 0, None, grep, alive=layout.root)
    got, at, number = b"", 0, 1
    while at < len(content):
        size = dice.randrange(40)
        write(layout, number, content[at : at + size])
        at += size
        number += dice.random() < 0.2
        got += drain(text)
    got += drain(text)
    assert got == expected(content, None, grep)
    shutil.rmtree(layout.root)
    text.waits = False
    assert drain(text) == b"" and text.step() is None
    text.close()


def test_a_follower_keeps_no_segment_that_it_is_through_with(layout: ProjectLayout) -> None:
    text = Text(Output(layout), 0, None, alive=layout.root)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(1, 20):
        write(layout, number, b"line\n")
        assert drain(text) == b"line\n"
        if number > 1:
            os.unlink(f"{layout.logs}/{segment_name(number - 1)}")
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    text.close()


def test_a_follower_that_comes_too_late_is_told(layout: ProjectLayout) -> None:
    write(layout, 1, b"line\n")
    text = Text(Output(layout), 0, None, alive=layout.root)
    assert drain(text) == b"line\n"
    os.unlink(f"{layout.logs}/{segment_name(1)}")
    write(layout, 3, b"line\n")
    with pytest.raises(LookupError, match="segment 2 was rotated away"):
        drain(text)
    text.close()


def test_a_follower_does_not_go_on_with_another_project_of_the_name(layout: ProjectLayout) -> None:
    write(layout, 1, b"before\n")
    text = Text(Output(layout), 0, None, alive=layout.root)
    assert drain(text) == b"before\n"
    shutil.rmtree(layout.root)
    os.makedirs(layout.logs)
    for number in (1, 2):
        write(layout, number, b"after\n")
    assert text.step() is None
    text.close()


@pytest.mark.parametrize("make", [os.symlink, os.link, lambda target, path: os.mkfifo(path), lambda target, path: os.mkdir(path)])
def test_only_regular_files_with_one_name_are_read(layout: ProjectLayout, tmp_path: Path, make: object) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret\n")
    make(str(secret), f"{layout.logs}/{segment_name(1)}")  # type: ignore[operator]
    write(layout, 2, b"mine\n")
    assert read(layout) == b"mine\n"
    make(str(secret), f"{layout.logs}/{segment_name(3)}")  # type: ignore[operator]
    assert b"secret" not in read(layout)


def test_what_a_project_truncates_reads_as_zeros(layout: ProjectLayout) -> None:
    write(layout, 1, b"0123456789\n")
    output = Output(layout)
    text = Text(output, 0, output.size)
    os.truncate(f"{layout.logs}/{segment_name(1)}", 0)
    assert drain(text) == bytes(11)
    text.close()
