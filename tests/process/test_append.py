"""Several processes append to one file that fills up all the time."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

from agent.host import files

_WRITERS, _LINES = 4, 400
_LIMIT_BYTES = 45_000  # all lines are some 67 kB: they rotate once, and nothing may be missing


def _write(path: str, writer: int) -> None:
    for number in range(_LINES):
        files.append_line(path, {"writer": writer, "number": number}, _LIMIT_BYTES)


def test_writers_that_find_the_file_full_at_once_rotate_it_once(tmp_path: Path) -> None:
    path = str(tmp_path / "history.jsonl")
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(path, writer)) for writer in range(_WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = files.read_lines(path)
    assert sorted((line["writer"], line["number"]) for line in lines) == [
        (writer, number) for writer in range(_WRITERS) for number in range(_LINES)
    ]
