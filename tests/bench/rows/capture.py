"""Capture: how fast a project's output gets to its segments, beside `| cat > file`."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from typing import Callable, Dict, List

from tests.bench.figure import Figure
from tests.bench.setting import FOREVER, Setting, checked, output_bytes, script, size_of, wait_until
from tests.support.agent import AgentHost

_LINE = "0123456789012345678901234567890123456789012345678901234567890123456789012345678"


def measure(setting: Setting) -> List[Figure]:
    """Blocks of 64 KiB from dd, and lines of 80 bytes from yes; from the first byte to the last."""
    size = setting.large_bytes
    writers = {
        "blocks (dd bs=64k)": f"dd if=/dev/zero bs=65536 count={size // 65536} 2>/dev/null",
        "lines (yes)": f"yes {_LINE} | head -c {size}",
    }
    ours: Dict[str, List[float]] = {name: [] for name in writers}
    bare: Dict[str, List[float]] = {name: [] for name in writers}
    with setting.host() as host:
        for number in range(setting.times(5)):
            for name, writer in writers.items():
                bare[name].append(_bare(host, writer, size))
                ours[name].append(_ours(host, f"capture-{number}", writer, size))
    return [Figure(name, "MB/s", ours[name], bare[name], "the same into cat > file", "≥ 0.5x") for name in writers]


def _ours(host: AgentHost, project: str, writer: str, size: int) -> float:
    os.sync()
    path = script(host, f"{writer}\n{FOREVER}", salt=project, logs={"segment_bytes": size // 8, "segments": 10})
    call = threading.Thread(target=lambda: checked(host.launch(project, path), 201))
    call.start()
    rate = _rate(lambda: output_bytes(host, project), size)
    call.join()
    checked(host.kill(project, grace_seconds=0, purge="true"), 200)
    return rate


def _bare(host: AgentHost, writer: str, size: int) -> float:
    os.sync()
    output = os.path.join(host.base, "captured")
    with subprocess.Popen(["/bin/sh", "-c", f"({writer}) | cat > {output}"]):
        rate = _rate(lambda: size_of(output), size)
    os.unlink(output)
    return rate


def _rate(written: Callable[[], int], size: int) -> float:
    """Megabytes a second, from the first look that sees a byte to the one that sees all."""
    started = wait_until(lambda: written() > 0, 60)
    already = written()
    ended = wait_until(lambda: written() >= size, 300, 0.002)
    return (size - already) / 1e6 / max(ended - started, time.get_clock_info("monotonic").resolution)
