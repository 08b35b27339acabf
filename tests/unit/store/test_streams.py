"""One stream of two that lie in the same segments: as if the other had never been there."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import List, Tuple

import pytest

from agent.store.layout import ProjectLayout
from agent.store.output import Output
from agent.store.segments import STDERR, STDOUT, segment_name, stream_mark, streams_name
from agent.store.streams import OneStream
from agent.store.text import Text, tail_begin

Piece = Tuple[int, bytes]


@pytest.fixture
def layout(tmp_path: Path) -> ProjectLayout:
    found = ProjectLayout(str(tmp_path / "web"), "web")
    os.makedirs(found.logs)
    return found


def write(layout: ProjectLayout, number: int, pieces: List[Piece]) -> None:
    """As a shim does: the mark first, where the stream changes."""
    current = STDOUT if not os.path.exists(f"{layout.logs}/{streams_name(number)}") else None
    with open(f"{layout.logs}/{segment_name(number)}", "ab") as segment:
        for stream, content in pieces:
            if stream != current:
                with open(f"{layout.logs}/{streams_name(number)}", "ab") as marks:
                    marks.write(stream_mark(segment.tell(), stream))
                current = stream
            segment.write(content)
            segment.flush()


def whole(output: Output) -> bytes:
    parts, at = [], 0
    while at < output.size:
        parts.append(output.read(at, output.size))
        at += len(parts[-1])
    return b"".join(parts)


def of(pieces: List[Piece], stream: int) -> bytes:
    return b"".join(content for each, content in pieces if each == stream)


def test_random_pieces_over_segments(layout: ProjectLayout) -> None:
    dice, pieces = random.Random(1), []
    for number in range(1, 6):
        some = [(dice.choice((STDOUT, STDERR)), os.urandom(dice.randrange(1, 90))) for _ in range(dice.randrange(0, 60))]
        write(layout, number, some)
        pieces += some
    for stream in (STDOUT, STDERR):
        output, wanted = OneStream(layout, stream), of(pieces, stream)
        assert whole(output) == wanted
        for _ in range(300):
            begin = dice.randrange(len(wanted))
            found = output.read(begin, min(len(wanted), begin + dice.randrange(1, 200)))
            assert found and wanted[begin:].startswith(found)
        needle = wanted[100:104]
        assert output.find(needle, 0, output.size) == wanted.find(needle)
        assert output.find_last(needle, 0, output.size) == wanted.rfind(needle)
        output.close()


def test_without_marks_all_is_standard_output(layout: ProjectLayout) -> None:
    write(layout, 1, [(STDOUT, b"one\ntwo\n")])
    assert whole(OneStream(layout, STDOUT)) == b"one\ntwo\n" and whole(OneStream(layout, STDERR)) == b""


def test_of_two_marks_for_one_byte_the_last_counts(layout: ProjectLayout) -> None:
    write(layout, 1, [(STDOUT, b"out\n"), (STDERR, b"")])  # killed before it moved a byte
    write(layout, 1, [(STDOUT, b"more\n"), (STDERR, b"err\n")])
    assert whole(OneStream(layout, STDOUT)) == b"out\nmore\n" and whole(OneStream(layout, STDERR)) == b"err\n"


def test_places_are_those_of_the_stream(layout: ProjectLayout) -> None:
    write(layout, 1, [(STDOUT, b"abc"), (STDERR, b"XY"), (STDOUT, b"de")])
    write(layout, 2, [(STDERR, b"Z"), (STDOUT, b"fg")])
    out, err = OneStream(layout, STDOUT), OneStream(layout, STDERR)
    assert [out.position(1, offset) for offset in range(8)] == [0, 1, 2, 3, 3, 3, 4, 5]
    assert [err.position(1, offset) for offset in range(8)] == [0, 0, 0, 0, 1, 2, 2, 2]
    assert (out.position(2, 0), out.position(2, 2), err.position(2, 1), err.position(3, 0)) == (5, 6, 3, 3)


def test_a_follower_of_errors_goes_over_a_rotation(layout: ProjectLayout) -> None:
    write(layout, 1, [(STDOUT, b"out\n"), (STDERR, b"err 1\n")])
    output = OneStream(layout, STDERR)
    assert tail_begin(output, 0, output.size, 1) == 0
    text = Text(output, 0, None, alive=layout.root)
    heard = b""
    for number in range(1, 5):
        write(layout, number, [(STDERR, b"again\n"), (STDOUT, b"out\n" * 50)])
        for _ in range(4):
            heard += text.step() or b""
    assert heard == b"err 1\n" + b"again\n" * 4
    text.close()
