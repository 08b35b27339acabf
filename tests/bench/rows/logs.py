"""Logs: 1 GiB of segments as one tar, beside a bare sendfile of the same segments."""

from __future__ import annotations

import os
from typing import List

from tests.bench import kernel, wire
from tests.bench.figure import Figure
from tests.bench.setting import FOREVER, Setting, checked, output_bytes, script, wait_until

PROJECT = "talkative"


def measure(setting: Setting) -> List[Figure]:
    """The output is written by a project, at rest while it is read."""
    size = setting.large_bytes
    ours: List[float] = []
    bare: List[float] = []
    peaks: List[float] = []
    with setting.host() as host:
        lines = f"dd if=/dev/zero bs=65536 count={size // 65536} 2>/dev/null\n{FOREVER}"
        path = script(host, lines, logs={"segment_bytes": size // 8, "segments": 10})
        checked(host.launch(PROJECT, path), 201)
        wait_until(lambda: output_bytes(host, PROJECT) >= size, 300, 0.05)
        os.sync()
        folder = host.path("projects", PROJECT, "logs")
        segments = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.startswith("output-")]
        request = wire.head(host, "GET", f"/project/{PROJECT}/logs", {"Connection": "close"})
        with wire.Bare(setting.python, "send", *segments) as sender:
            for _ in range(setting.times(5)):
                bare.append(wire.download(sender.address, b"x")[0])
                kernel.reset_peak(host.agent_pid)
                seconds, received = wire.download(host.address, request)
                assert received > size, f"the tar ended after {received} bytes"
                ours.append(seconds)
                peaks.append(kernel.peak_bytes(host.agent_pid) / 1e6)
    return [
        Figure("tar of all segments", "s", ours, bare, "sendfile", "≤ 1.5x"),
        Figure("peak RSS of the agent", "MB", peaks, goal="≤ 48 MB"),
    ]
