"""Output: complete, in order, capped, whatever is written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from agent.model import LogPolicy
from agent.store.segments import times_path
from tests.support.wait import eventually

LINES = "import sys, time\nfor n in range(%d): sys.stdout.write('line %%07d\\n' %% n)\nsys.stdout.flush(); time.sleep(1000)"


def test_segments_joined_are_the_output(shims: Any) -> None:
    shims.run("lines", LINES % 200_000, logs=LogPolicy(segment_bytes=100_000, segments=100))
    expected = b"".join(b"line %07d\n" % n for n in range(200_000))
    eventually(lambda: len(shims.output("lines")) == len(expected), message="all of it")
    assert shims.output("lines") == expected
    sizes = [path.stat().st_size for path in sorted(Path(shims.store.project("lines").logs).glob("output-*.log"))]
    assert set(sizes[:-1]) == {100_000}


def test_the_cap_is_hard(shims: Any) -> None:
    shims.run("flood", LINES % 200_000, logs=LogPolicy(segment_bytes=50_000, segments=3))
    shims.await_output("flood", b"line 0199999\n")
    segments = list(Path(shims.store.project("flood").logs).glob("output-*.log"))
    assert len(segments) == 3 and sum(path.stat().st_size for path in segments) <= 150_000


def test_bytes_are_kept_as_they_are(shims: Any) -> None:
    raw = bytes(range(256)) * 1000 + b"\xff\xfe no newline at the end"
    shims.run("raw", f"import os, time\nos.write(1, bytes(range(256)) * 1000 + {raw[-24:]!r})\ntime.sleep(1000)")
    eventually(lambda: len(shims.output("raw")) >= 256_024, message="all bytes")
    assert shims.output("raw") == bytes(range(256)) * 1000 + raw[-24:]


def test_marks_tell_when_output_came_and_where_it_is(shims: Any) -> None:
    script = "import sys, time\nfor n in range(100):\n print('line', n, flush=True); time.sleep(0.05)\ntime.sleep(1000)"
    shims.run("ticks", script, logs=LogPolicy(segment_bytes=1024, segments=5))
    output = shims.await_output("ticks", b"line 99\n")
    marks = [json.loads(line) for line in Path(times_path(shims.store.project("ticks").logs)).read_bytes().splitlines()]
    places = [(segment, offset) for _, segment, offset in marks]
    assert places[0] == (1, 0) and places == sorted(places) and 2 <= len(places) <= 20
    assert all(output[offset : offset + 5] == b"line " for segment, offset in places if segment == 1)
    assert all(marks[n][0] < marks[n + 1][0] for n in range(len(marks) - 1))


def test_the_last_words_of_a_crash_are_kept(shims: Any) -> None:
    shims.add_release("last", "import os\nos.write(2, b'x' * 60000 + b'last words')\nos.abort()")
    shims.up("last")
    record = shims.await_state("last", "failed")
    assert record.outcome.exit_cause["signal"] == 6
    assert shims.output("last").endswith(b"last words")


def test_a_project_that_removes_its_logs_can_still_log(shims: Any) -> None:
    script = "import time, os\nfor n in range(10**9):\n print('line', n, flush=True); time.sleep(0.0005)"
    shims.run("vandal", script, logs=LogPolicy(segment_bytes=2_000, segments=5))
    logs = shims.store.project("vandal").logs
    for name in os.listdir(logs):
        os.unlink(f"{logs}/{name}")
    os.rmdir(logs)
    eventually(lambda: os.path.isdir(logs) and shims.output("vandal"), message="a new segment")
