"""What every row gets: the zipapp, the interpreter, how much to do; and hosts, projects and calls made from it."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict

from tests.support import artifact
from tests.support.agent import AgentHost
from tests.support.http import Response

FOREVER = "exec sleep 2147483647"
#: How often a file or a process is looked at while it is waited for: what the samples are blurred by.
LOOK_SECONDS = 0.0002


@dataclass(frozen=True)
class Setting:
    """One run of the bench. `python` is the interpreter of the agent, not that of the bench's own environment; curves are
    drawn into the folder `plots`."""

    pyz: str
    python: str
    quick: bool
    cycles: int
    plots: str = "."

    @property
    def large_bytes(self) -> int:
        """The size of a large upload, log or output: 1 GiB, in a quick run 64 MiB."""
        return 64 << 20 if self.quick else 1 << 30

    def times(self, usual: int) -> int:
        """How often to repeat: a fifth in a quick run, but at least twice."""
        return max(2, usual // 5) if self.quick else usual

    def host(self) -> AgentHost:
        """A host with an agent, started when it is entered."""
        return AgentHost(self.pyz, self.python)


def script(host: AgentHost, lines: str, salt: str = "", **manifest: object) -> str:
    """Write an artifact with this run.sh (and, to make the digest another one, a file with `salt`); its path."""
    members: Dict[str, artifact.Member] = {"run.sh": (f"#!/bin/sh\n{lines}\n".encode(), 0o755)}
    if salt:
        members["salt"] = (salt.encode(), 0o644)
    if manifest:
        members[artifact.MANIFEST] = (json.dumps(manifest).encode(), 0o644)
    return artifact.write(artifact.encode(members, "tar.gz"), "bench.tar.gz", host.artifacts)


def checked(response: Response, *statuses: int) -> Dict[str, Any]:
    """The answer's document. AssertionError unless its status is one of these: a failed call is no sample."""
    assert response.status in statuses, f"{response}"
    return response.json


def steps_of(reply: Dict[str, Any]) -> Dict[str, float]:
    """The steps of a launch's reply: seconds by name."""
    return {step["name"]: float(step["seconds"]) for step in reply["steps"]}


def wait_until(predicate: Callable[[], bool], seconds: float, pause: float = LOOK_SECONDS) -> float:
    """The monotonic time at which it was first true. AssertionError when it was not in time."""
    deadline = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(pause)
    return time.monotonic()


def size_of(path: str) -> int:
    """The size of a file; 0 while it is not there."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def first_segment(host: AgentHost, project: str) -> str:
    """Where the first byte of a new project's output goes."""
    return host.path("projects", project, "logs", "output-00000001.log")


def output_bytes(host: AgentHost, project: str) -> int:
    """The sizes of all segments together."""
    folder = host.path("projects", project, "logs")
    try:
        return sum(size_of(os.path.join(folder, name)) for name in os.listdir(folder) if name.startswith("output-"))
    except FileNotFoundError:
        return 0
