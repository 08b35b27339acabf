"""What `doctor` really does: launch a project that floods its log and forks twice, read all of it, kill it, find nothing."""

from __future__ import annotations

import io
import json
import os
import statistics
import sys
import tarfile
import time
from typing import Iterator, List

from agent.cli.checks import BAD, OK, Finding
from agent.client import Client
from agent.errors import AgentError, NotFound
from agent.host import procfs

LINES = 20_000
_PINGS = 20

#: Prints LINES lines, leaves a daemon that forked twice, ignores SIGTERM and has closed its descriptors, then waits.
_PROGRAM = """\
import os, signal, time
for number in range({lines}):
    print(f"{{number:08d}} the doctor was here")
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(write, str(os.getpid()).encode())
        os.closerange(0, 64)
        while True:
            time.sleep(3600)
    os._exit(0)
os.wait()
os.close(write)
print("escaped", os.read(read, 32).decode(), flush=True)
open(os.environ["PERSIST_DIR"] + "/ready", "w").close()
while True:
    time.sleep(3600)
"""


def run(agent: Client) -> List[Finding]:
    """The findings; nothing of the trial is left. They end with the first that is bad."""
    project = f"doctor-{os.getpid()}"
    found: List[Finding] = []
    try:
        for finding in _steps(agent, project):
            found.append(finding)
            if finding.level == BAD:
                break
    except AgentError as error:
        found.append(Finding("trial", BAD, error.detail, error.hint or ""))
    finally:
        _clear(agent, project, found)
    return found


def _steps(agent: Client, project: str) -> Iterator[Finding]:
    yield _ping(agent)
    health = agent.health()
    if not health.get("healthy"):
        yield Finding("health", BAD, f"The agent is not well: {'; '.join(health.get('problems') or ['it says no more'])}.")
    started = time.monotonic()
    reply = agent.launch(project, io.BytesIO(artifact()))
    yield Finding("launch", OK, f"A project was launched and ready in {time.monotonic() - started:.2f} s.")
    with agent.text(project) as download:
        lines = b"".join(iter(download.read, b"")).decode(errors="replace").splitlines()
    yield _flood(lines)
    escaped = int(lines[-1].split()[1])
    killed = agent.kill(project, grace_seconds=0.5)
    yield _kill([int(reply["pid"]), escaped], {int(process["pid"]) for process in killed.get("killed") or ()})


def _ping(agent: Client) -> Finding:
    seconds = []
    for _ in range(_PINGS):
        started = time.monotonic()
        agent.ping()
        seconds.append(time.monotonic() - started)
    return Finding("ping", OK, f"{agent.url} answers in {1000 * statistics.median(seconds):.1f} ms (median of {_PINGS}).")


def _flood(lines: List[str]) -> Finding:
    wanted = [f"{number:08d} the doctor was here" for number in range(LINES)]
    if lines[:-1] != wanted or not lines[-1].startswith("escaped "):
        return Finding("logs", BAD, f"Of {LINES} lines that were printed, {len(lines)} came back, or others.", "Report this.")
    return Finding("logs", OK, f"All {LINES} lines that it printed came back, in order.")


def _kill(pids: List[int], named: set[int]) -> Finding:
    alive = [pid for pid in pids if procfs.start_time(pid) is not None]
    if alive:
        return Finding("kill", BAD, f"Processes outlived the kill: {', '.join(map(str, alive))}.", "Report this.")
    if not named.issuperset(pids):
        return Finding("kill", BAD, f"The kill named {sorted(named)}, and {pids} were there.", "Report this.")
    return Finding("kill", OK, "The kill left nothing alive and named every process, a daemon that forked twice included.")


def _clear(agent: Client, project: str, found: List[Finding]) -> None:
    try:
        agent.kill(project, grace_seconds=0, purge=True)
    except NotFound:
        return
    except AgentError as error:
        if not any(finding.level == BAD for finding in found):
            found.append(Finding("purge", BAD, f"{project} could not be purged: {error.detail}", error.hint or ""))


def artifact() -> bytes:
    """The trial's project as a tar."""
    manifest = {
        "command": [sys.executable, "-I", "-S", "trial.py"], "stop": {"signal": "SIGTERM", "grace_seconds": 0.5},
        "readiness": {"command": 'test -e "$PERSIST_DIR/ready"', "timeout_seconds": 60}, "restart": {"policy": "never"},
    }  # fmt: skip
    files = {"anthill.json": json.dumps(manifest), "trial.py": _PROGRAM.format(lines=LINES)}
    stream = io.BytesIO()
    with tarfile.open(mode="w", fileobj=stream) as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return stream.getvalue()
