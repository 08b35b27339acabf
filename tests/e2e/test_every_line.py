"""No line missing, repeated or torn, while shims and agents are killed with -9 at random moments.

By hand with more of them: `ANT_LINES=50000000 python3 build.py test tests/e2e/test_every_line.py -k many`.
"""

from __future__ import annotations

import json
import os
import random
from typing import Dict, Iterator

import pytest

from tests.conftest import NEWEST, find_interpreter
from tests.support import artifact, processes
from tests.support.agent import AgentHost
from tests.support.wait import eventually

pytestmark = pytest.mark.e2e

MANY = int(os.environ.get("ANT_LINES", "1000000"))
SECONDS = 120.0
_LINE_BYTES = 9
_BLOCK_BYTES = _LINE_BYTES * 100_000
#: Half of the lines wait for the first death; now and then it rests, so that the later ones hit it in its work, too.
_SCRIPT = """#!/bin/sh
cd "$PERSIST_DIR"
until [ -e go ]; do sleep 0.05; done
awk 'BEGIN { for (i = 1; i <= %(lines)d; i++) {
    printf "%%08d\\n", i
    if (i %% %(rest)d == 0) system("sleep 0.002")
    if (i == %(half)d) system("until [ -e on ]; do sleep 0.05; done")
} }'
exec sleep 2147483647
"""
ROTATION = {"rotating": {"segment_bytes": 1 << 18, "segments": 3000}, "in one piece": {"segment_bytes": 1 << 30, "segments": 1}}


@pytest.fixture(scope="module")
def host(pyz: str) -> Iterator[AgentHost]:
    """On the newest Python: before 3.10 there is no splice(2)."""
    python = find_interpreter(NEWEST)
    if python is None:
        pytest.skip(f"Python {NEWEST} is not installed")
    with AgentHost(pyz, python) as agent_host:
        yield agent_host


@pytest.mark.parametrize("rotation", ROTATION)
def test_a_hundred_thousand(host: AgentHost, project: str, rotation: str) -> None:
    print_and_kill(host, project, 100_000, ROTATION[rotation], deaths=4)


@pytest.mark.slow
@pytest.mark.parametrize("rotation", ROTATION)
def test_many(host: AgentHost, project: str, rotation: str) -> None:
    print_and_kill(host, project, MANY, ROTATION[rotation], deaths=max(20, MANY // 500_000))


def print_and_kill(host: AgentHost, project: str, lines: int, rotation: Dict[str, int], deaths: int) -> None:
    """Launch what prints the lines; of three victims two are its shim and one is the agent; then look at every byte."""
    script = (_SCRIPT % {"lines": lines, "rest": lines // 100, "half": lines // 2}).encode()
    manifest = json.dumps({"logs": rotation}).encode()
    members = {"run.sh": (script, 0o755), artifact.MANIFEST: (manifest, 0o644)}
    reply = host.launch(project, artifact.write(artifact.encode(members, "tar.gz"), f"{project}.tar.gz", host.artifacts))
    assert reply.status == 201, reply
    dice, size = random.Random(lines), lines * _LINE_BYTES
    touch(host, project, "go")
    for number in range(deaths):
        # at some later moment, which the dice choose, in the middle of its work
        wanted = min(size, written(host, project) + dice.randrange(1, 2 * size // deaths))
        eventually(lambda wanted=wanted: written(host, project) >= wanted, SECONDS, "output goes on")
        if number % 3 == 1:
            host.crash_agent()
        else:
            dead = eventually(lambda: processes.look(host.record(project)["shim"]["pid"]), SECONDS, "a shim")
            processes.kill_hard(dead)
        touch(host, project, "on")
    eventually(lambda: written(host, project) >= size, SECONDS, lambda: f"{written(host, project)} of {size} bytes")
    look_at_every_byte(host, project, lines)


def touch(host: AgentHost, project: str, name: str) -> None:
    """Let the project go on that waits for this file."""
    with open(host.path("projects", project, "data", name), "w"):
        pass


def written(host: AgentHost, project: str) -> int:
    """Bytes in all segments together."""
    folder = host.path("projects", project, "logs")
    return sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder) if name.startswith("output-"))


def look_at_every_byte(host: AgentHost, project: str, lines: int) -> None:
    """Block by block: what is there, joined, is one line after the other."""
    folder, found, number = host.path("projects", project, "logs"), b"", 1
    for name in sorted(name for name in os.listdir(folder) if name.startswith("output-")):
        with open(os.path.join(folder, name), "rb") as segment:
            for block in iter(lambda segment=segment: segment.read(_BLOCK_BYTES), b""):
                found += block
                whole = len(found) // _LINE_BYTES
                assert found[: whole * _LINE_BYTES] == b"".join(b"%08d\n" % n for n in range(number, number + whole))
                found, number = found[whole * _LINE_BYTES :], number + whole
    assert (number, found) == (lines + 1, b"")
