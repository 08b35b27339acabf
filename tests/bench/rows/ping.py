"""Ping while the agent is saturated; beside it, in the same seconds, a bare responder and the machine's jitter."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import Any, Dict, Iterator, List

import build
from tests.bench import probe, wire
from tests.bench.figure import Figure
from tests.bench.setting import FOREVER, Setting, checked, output_bytes, script, wait_until
from tests.support import processes
from tests.support.agent import AgentHost

_PROJECT = "talkative"
_LOG_BYTES = 64 << 20


def measure(setting: Setting) -> List[Figure]:
    """First without load, then under all of it."""
    seconds = 4.0 if setting.quick else 12.0
    with setting.host() as host, wire.Bare(setting.python, "answer") as bare:
        _write_log(host)
        calm = _probe(host, bare, seconds)
        with _saturation(host, 0.1 if setting.quick else 1.0) as outcomes:
            busy = _probe(host, bare, seconds)
            resident = processes.resident_bytes(host.agent_pid) / 1e6
    bare_is = "pings of a bare responder, same seconds"
    failures = ", ".join(busy["failures"][:5])
    load_is = ", ".join(f"{count} x {outcome}" for outcome, count in sorted(outcomes.items()))
    return [
        *(Figure("calm", "ms", calm["ours"], calm["bare"], bare_is, quantile=share) for share in (0.5, 0.99)),
        Figure("saturated", "ms", busy["ours"], busy["bare"], bare_is, note=f"seen by the load: {load_is}"),
        Figure("saturated", "ms", busy["ours"], busy["bare"], bare_is, "≤ 25 ms", quantile=0.99),
        Figure("sleeps too long while saturated", "ms", busy["jitter"], quantile=0.99, note="the machine's own jitter"),
        Figure("failures while saturated", "pings", [len(busy["failures"])], goal="0", note=failures),
        Figure("RSS of the agent while saturated", "MB", [resident]),
    ]  # fmt: skip


def _write_log(host: AgentHost) -> None:
    lines = f"dd if=/dev/zero bs=65536 count={_LOG_BYTES // 65536} 2>/dev/null\n{FOREVER}"
    path = script(host, lines, logs={"segment_bytes": _LOG_BYTES, "segments": 2})
    checked(host.launch(_PROJECT, path), 201)
    wait_until(lambda: output_bytes(host, _PROJECT) >= _LOG_BYTES, 60, 0.01)


def _probe(host: AgentHost, bare: wire.Bare, seconds: float) -> Dict[str, Any]:
    """All three probes at the same time."""
    ours = _start("probe", "ping", *map(str, host.address), str(seconds))
    beside = _start("probe", "ping", *map(str, bare.address), str(seconds))
    jitter = _start("probe", "sleep", str(seconds))
    found = [json.loads(process.communicate()[0]) for process in (ours, beside, jitter)]
    assert len(found[0]["milliseconds"]) + len(found[0]["failures"]) == int(seconds * probe.PINGS_PER_SECOND)
    assert not found[1]["failures"], "the bare responder failed: this machine can't be measured now"
    return {
        "ours": found[0]["milliseconds"], "failures": found[0]["failures"], "bare": found[1]["milliseconds"],
        "jitter": found[2]["milliseconds"],
    }  # fmt: skip


@contextlib.contextmanager
def _saturation(host: AgentHost, scale: float) -> Iterator[Dict[str, int]]:
    """The load runs inside; what it saw is in the dictionary afterwards."""
    outcomes: Dict[str, int] = {}
    process = _start("load")
    try:
        assert process.stdin is not None and process.stdout is not None
        setup = {"address": host.address, "token": host.token, "project": _PROJECT, "scale": scale}
        process.stdin.write(json.dumps(setup) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ready\n"
        yield outcomes
        outcomes.update(json.loads(process.communicate()[0]))
    finally:
        process.kill()
        process.wait()


def _start(module: str, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"tests.bench.{module}", *words]
    environ = {**os.environ, "PYTHONPATH": build.ROOT}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=build.ROOT, env=environ)
