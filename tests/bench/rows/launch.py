"""Launch: from the call to the first byte of the project's output in its segment, beside a bare fork and exec."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import Any, Dict, List, Tuple

from tests.bench.figure import Figure
from tests.bench.setting import FOREVER, Setting, checked, first_segment, script, size_of, steps_of, wait_until
from tests.bench.table import steps_note
from tests.support.agent import AgentHost

_SCRIPT = "echo first line\n" + FOREVER


def measure(setting: Setting) -> List[Figure]:
    """New projects, each with an artifact of its own; then the same projects again, whose releases are there."""
    new: List[float] = []
    again: List[float] = []
    bare: List[float] = []
    steps: List[Dict[str, float]] = []
    with setting.host() as host:
        for number in range(setting.times(20)):
            project = f"launch-{number}"
            path = script(host, _SCRIPT, salt=project)
            bare.append(_bare(host))
            milliseconds, reply = first_byte(host, project, path, 0)
            new.append(milliseconds)
            steps.append(steps_of(reply))
            checked(host.kill(project, grace_seconds=0), 200)
            again.append(first_byte(host, project, path, size_of(first_segment(host, project)))[0])
            checked(host.kill(project, grace_seconds=0, purge="true"), 200)
        parts = _parts(host, setting)
    note = steps_note(steps)
    bare_is = "fork+exec of the same run.sh, output to a file"
    return [
        Figure("call → first log byte, new artifact", "ms", new, bare, bare_is, "≤ +10 ms", note, difference=True),
        Figure("call → first log byte, release there", "ms", again, bare, bare_is, "≤ +10 ms", difference=True),
        *parts,
    ]  # fmt: skip


def first_byte(host: AgentHost, project: str, path: str, there: int) -> Tuple[float, Dict[str, Any]]:
    """Milliseconds until the first segment is larger than `there`, and the reply, which comes a second later."""
    replies: List[Dict[str, Any]] = []
    call = threading.Thread(target=lambda: replies.append(checked(host.launch(project, path), 201)))
    segment = first_segment(host, project)
    started = time.monotonic()
    call.start()
    milliseconds = 1000 * (wait_until(lambda: size_of(segment) > there, 30) - started)
    call.join()
    return milliseconds, replies[0]


def _bare(host: AgentHost) -> float:
    """Milliseconds from fork to the first byte in the file."""
    program, output = os.path.join(host.base, "run.sh"), os.path.join(host.base, "first-line")
    with open(program, "w", encoding="ascii") as file:
        file.write(f"#!/bin/sh\n{_SCRIPT}\n")
    os.chmod(program, 0o755)
    to_file = [
        (os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    started = time.monotonic()
    pid = os.posix_spawn(program, [program], {"PATH": os.defpath}, file_actions=to_file)
    milliseconds = 1000 * (wait_until(lambda: size_of(output) > 0, 30) - started)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.unlink(output)
    return milliseconds


def _parts(host: AgentHost, setting: Setting) -> List[Figure]:
    """Where the time goes: what a file system's fsync and syncfs cost here, which a durable commit pays for."""
    fsync: List[float] = []
    path = os.path.join(host.store, "fsync-probe")
    for _ in range(setting.times(20)):
        started = time.monotonic()
        with open(path, "w", encoding="ascii") as file:
            file.write(json.dumps({"probe": 1}))
            file.flush()
            os.fsync(file.fileno())
        fsync.append(1000 * (time.monotonic() - started))
        os.unlink(path)
    return [
        Figure(
            "one fsync of a small file, same store",
            "ms",
            fsync,
            note="what the disk itself takes; no code of the agent",
        )
    ]
