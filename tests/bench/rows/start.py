"""Start: from the spawn of the zipapp to the first pong, on a new store and on one that was used before."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from typing import List

from tests.bench.figure import Figure
from tests.bench.setting import Setting, wait_until
from tests.support.agent import AGENT, AgentHost
from tests.support.wait import eventually

_PING = b"GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_ENVIRON = {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": "/nonexistent"}


def measure(setting: Setting) -> List[Figure]:
    """Both, beside an interpreter that does nothing."""
    first: List[float] = []
    again: List[float] = []
    bare: List[float] = []
    for _ in range(setting.times(10)):
        bare.append(_bare(setting.python))
        host = setting.host()
        with contextlib.ExitStack() as stack:
            stack.callback(host.close)
            first.append(_start(host))
            # until then it may still have to be reverted, and its next start would be another first one
            current = host.path("projects", AGENT, "current")
            eventually(lambda: os.path.islink(current), 30, "the outcome of the first start")  # noqa: B023
            host.stop()
            again.append(_start(host))
    bare_is = "python3 -I -S -c pass"
    return [
        Figure("spawn → first pong, store in use", "ms", again, bare, bare_is, "≤ 150 ms"),
        Figure("spawn → first pong, new store", "ms", first, bare, bare_is, note="it also installs itself there"),
    ]  # fmt: skip


def _bare(python: str) -> float:
    started = time.monotonic()
    subprocess.run([python, "-I", "-S", "-c", "pass"], check=True)
    return 1000 * (time.monotonic() - started)


def _start(host: AgentHost) -> float:
    with open(host.output_path, "ab") as output:
        started = time.monotonic()
        host.process = subprocess.Popen(
            host.serve_command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=_ENVIRON, cwd="/",
            start_new_session=True,
        )  # fmt: skip
        return 1000 * (wait_until(lambda: _pongs(host), 20) - started)


def _pongs(host: AgentHost) -> bool:
    with contextlib.suppress(ConnectionError), socket.create_connection(host.address, timeout=20) as connection:
        connection.sendall(_PING)
        return connection.recv(4096).endswith(b"pong")
    return False
