"""Where output is kept: the names of its segments, and the FIFO that it comes through."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Iterable, List

from agent.host import files
from agent.store.layout import ProjectLayout

_PREFIX, _SUFFIX = "output-", ".log"

#: At this size a project's `events.jsonl` becomes `events.1.jsonl`.
EVENTS_BYTES = 1 << 20
#: The same for the one of the whole store.
STORE_EVENTS_BYTES = 4 << 20
#: The streams of a project's output, as the marks in `output-*.streams` name them.
STDOUT, STDERR = 0, 1
#: The length of such a mark.
STREAM_MARK_BYTES = 21
#: `times.jsonl` holds lines of one length, so that a place in it is found by halving: [time, segment, offset].
MARK_BYTES = 57
#: At this size it becomes `times.1.jsonl`: two files, a day of output without a second's pause.
TIMES_LIMIT_BYTES = 50_000 * MARK_BYTES


def segment_name(number: int) -> str:
    """The file name of one segment; names sort in the order of writing."""
    return f"{_PREFIX}{number:08d}{_SUFFIX}"


def streams_name(number: int) -> str:
    """The file beside a segment that tells which of its bytes are of which stream; without one all are of standard output."""
    return f"{_PREFIX}{number:08d}.streams"


def stream_mark(offset: int, stream: int) -> bytes:
    """One line of it: from this offset on the bytes are of this stream. Of two with one offset the last counts."""
    return b"[%16d,%d]\n" % (offset, stream)


def segment_numbers(directory: str) -> List[int]:
    """The segments in a project's `logs/`, oldest first."""
    try:
        return segment_numbers_of(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def segment_numbers_of(names: Iterable[str]) -> List[int]:
    """The segments among the names of files, oldest first."""
    digits = (name[len(_PREFIX) : -len(_SUFFIX)] for name in names if name.startswith(_PREFIX) and name.endswith(_SUFFIX))
    return sorted(int(number) for number in digits if number.isdecimal())


def log_bytes(directory: str) -> int:
    """The sizes of all files in a project's `logs/` together, crash capsules aside; 0 where there are none."""
    total = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    total += _size_of(entry)
    except (FileNotFoundError, NotADirectoryError):  # a project may have put something else there
        return 0
    return total


def _size_of(entry: os.DirEntry[str]) -> int:
    """0 when it is gone."""
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def crash_runs(layout: ProjectLayout) -> List[int]:
    """The runs of which there is a crash capsule, oldest first."""
    numbers = (name[len("run-") : -len(".json")] for name in files.names(layout.crashes) if name.endswith(".json"))
    return sorted(int(number) for number in numbers if number.isdecimal())


def crash_path(layout: ProjectLayout, run: int) -> str:
    """Where the crash capsule of that run is."""
    return f"{layout.crashes}/run-{run}.json"


def times_path(logs: str) -> str:
    """Where the marks of time are (shim/times.py)."""
    return logs + "/times.jsonl"


def older(path: str) -> str:
    """The name that a full file of lines gets: `times.1.jsonl`."""
    stem, extension = os.path.splitext(path)
    return f"{stem}.1{extension}"


def mark(at: str, segment: int, offset: int) -> bytes:
    """One line of `times.jsonl`."""
    return b'["%s",%10d,%16d]\n' % (at.encode(), segment, offset)


def prepare(layout: ProjectLayout) -> int:
    """Make sure of the FIFO, also when something else took its name, and find the segment to go on with."""
    files.make_directory(layout.logs)
    make_fifo(layout.fifo)
    return _last_segment(layout)


def make_fifo(path: str) -> None:
    """Make sure of a FIFO of that name."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISFIFO(os.lstat(path).st_mode):
            return
        os.unlink(path)
    os.mkfifo(path, 0o600)


def _last_segment(layout: ProjectLayout) -> int:
    numbers = segment_numbers(layout.logs)
    return numbers[-1] if numbers else 1
