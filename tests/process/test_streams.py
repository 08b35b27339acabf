"""Standard output and standard error told apart: every byte of each, in its order, whatever dies."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.model import SEPARATE, LogPolicy
from agent.store.output import Output
from agent.store.segments import STDERR, STDOUT
from agent.store.streams import OneStream
from tests.support.wait import eventually

SECONDS = 60.0
#: Lines of both in turn, without a buffer between, in two halves.
NUMBERS = """
import os, time
for n in range(20_000):
    os.write(1, b"out %06d\\n" % n)
    os.write(2, b"err %06d\\n" % n)
    if n == 10_000:
        while not os.path.exists("on"): time.sleep(0.01)
time.sleep(1000)
"""


def read(output: Output) -> bytes:
    parts, at = [], 0
    while at < output.size:
        parts.append(output.read(at, output.size))
        at += len(parts[-1])
    output.close()
    return b"".join(parts)


def stream(shims: Any, project: str, which: int) -> bytes:
    return read(OneStream(shims.store.project(project), which))


def lines(word: bytes) -> bytes:
    return b"".join(b"%b %06d\n" % (word, n) for n in range(20_000))


@pytest.mark.parametrize("deaths", [0, 3])
def test_each_in_its_order(shims: Any, deaths: int) -> None:
    if deaths and sys.version_info < (3, 10):
        pytest.skip("splice is not installed")  # read and written, a death may lose what is in between
    policy = LogPolicy(segment_bytes=20_000, segments=1000, streams=SEPARATE)
    shims.add_release("both", NUMBERS, logs=policy)
    layout, handle = shims.store.project("both"), shims.handle("both")
    shims.up("both")
    for _ in range(deaths):
        shim = eventually(lambda: (handle.record() or None) and handle.record().shim, SECONDS, "a shim")
        os.kill(shim["pid"], signal.SIGKILL)
        eventually(lambda: not handle.is_alive, SECONDS, "the lock is free")
        handle.see_to_it()
        eventually(lambda shim=shim: handle.record().shim != shim, SECONDS, "a new shim")
        Path(layout.release("1"), "on").touch()
    Path(layout.release("1"), "on").touch()
    wanted = {STDOUT: lines(b"out"), STDERR: lines(b"err")}
    eventually(lambda: len(shims.output("both")) >= sum(map(len, wanted.values())), SECONDS, "all of it")
    for which, content in wanted.items():
        assert stream(shims, "both", which) == content


def test_the_cap_counts_the_marks(shims: Any) -> None:
    shims.run("both", NUMBERS.replace("10_000", "-1"), logs=LogPolicy(segment_bytes=20_000, segments=3, streams=SEPARATE))
    eventually(lambda: stream(shims, "both", STDERR).endswith(b"err 019999\n"), SECONDS, "the last line")
    sizes = {path.name: path.stat().st_size for path in Path(shims.store.project("both").logs).glob("output-*")}
    assert sum(sizes.values()) <= 60_000 and len([name for name in sizes if name.endswith(".log")]) == 3
    assert lines(b"err").endswith(stream(shims, "both", STDERR)) and lines(b"out").endswith(stream(shims, "both", STDOUT))


def test_a_release_that_does_not_ask_has_them_together_again(shims: Any) -> None:
    script = "import os, time\nos.write(1, b'out %s\\n')\nos.write(2, b'err %s\\n')\ntime.sleep(1000)"
    shims.add_release("web", script % (1, 1), logs=LogPolicy(streams=SEPARATE))
    shims.add_release("web", script % (2, 2), version="2")
    shims.up("web")
    eventually(lambda: stream(shims, "web", STDERR) == b"err 1\n", SECONDS, "its errors")
    shims.up("web", "2", fallback="1")
    eventually(lambda: stream(shims, "web", STDOUT) == b"out 1\nout 2\nerr 2\n", SECONDS, lambda: str(shims.output("web")))
    assert stream(shims, "web", STDERR) == b"err 1\n"
