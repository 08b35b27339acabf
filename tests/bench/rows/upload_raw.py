"""Upload of 1 GiB as a raw body: time, the agent's memory, and how many copies the disk holds meanwhile."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, field
from typing import Dict, List, Tuple

from tests.bench import kernel, wire
from tests.bench.figure import Figure
from tests.bench.setting import Setting, checked, steps_of
from tests.bench.table import steps_note
from tests.support.agent import AgentHost

PROJECT = "large"
Body = Tuple[bytes, bytes]


@dataclass
class Samples:
    """What each repetition gave."""

    received: List[float] = field(default_factory=list)
    called: List[float] = field(default_factory=list)
    peaks: List[float] = field(default_factory=list)
    copies: List[float] = field(default_factory=list)
    steps: List[Dict[str, float]] = field(default_factory=list)
    bare: List[float] = field(default_factory=list)


def measure(setting: Setting) -> List[Figure]:
    """The artifact is accepted and runs, so every copy that the agent makes is seen."""
    with setting.host() as host:
        path = wire.sparse_program(os.path.join(host.artifacts, PROJECT), setting.large_bytes)
        samples = run(setting, host, path, raw_body(host, path))
    bare_is = "recv + write, nothing hashed"
    note = steps_note(samples.steps)
    return [
        Figure("receive, digest included", "s", samples.received, samples.bare, bare_is, "≤ 1.1x", note),
        Figure("whole call, durable and ready", "s", samples.called, samples.bare, bare_is, note="with 1 s of proving"),
        Figure("peak RSS of the agent", "MB", samples.peaks, goal="≤ 40 MB"),
        Figure("disk at its peak / size", "copies", samples.copies, goal="1"),
    ]  # fmt: skip


def raw_body(host: AgentHost, path: str) -> Body:
    """What goes before and after the file's bytes."""
    query = f"/project?project={PROJECT}&sha256={digest(path)}"
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(os.path.getsize(path))}
    return wire.head(host, "POST", query, headers), b""


def digest(path: str) -> str:
    """SHA-256 of a file that is too large for memory."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while True:
            data = file.read(1 << 20)
            if not data:
                return found.hexdigest()
            found.update(data)


def run(setting: Setting, host: AgentHost, path: str, body: Body) -> Samples:
    """Ours and the bare receiver in turn, each time after the disk is at rest."""
    samples = Samples()
    size = os.path.getsize(path)
    with wire.Bare(setting.python, "receive", os.path.join(host.base, "received")) as bare:
        for _ in range(setting.times(5)):
            os.sync()
            samples.bare.append(wire.upload_bare(bare.address, path))
            os.sync()
            kernel.reset_peak(host.agent_pid)
            with kernel.DiskPeak(host.store) as disk:
                started = time.monotonic()
                reply = checked(wire.upload(host.address, body[0], path, body[1]), 201)
                samples.called.append(time.monotonic() - started)
            samples.peaks.append(kernel.peak_bytes(host.agent_pid) / 1e6)
            samples.copies.append(disk.bytes / size)
            samples.steps.append(steps_of(reply))
            samples.received.append(samples.steps[-1]["receive"])
            checked(host.kill(PROJECT, grace_seconds=0, purge="true"), 200)
    return samples
