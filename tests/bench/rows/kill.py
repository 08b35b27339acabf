"""Kill: from the call to the reply for a tree of five daemons, beside a signal to each until all are gone."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import List

from tests.bench.figure import Figure
from tests.bench.setting import FOREVER, Setting, checked, script, wait_until
from tests.support import processes
from tests.support.agent import AgentHost

_DAEMONS = 5
_GRACE_SECONDS = 0.3
_OBEYING = f"for i in 1 2 3 4 5; do (setsid sleep 2147483647 &); done\necho up\n{FOREVER}"
_IGNORING = f"trap '' TERM\n{_OBEYING}"


def measure(setting: Setting) -> List[Figure]:
    """Daemons in sessions of their own, orphaned; once they obey SIGTERM, once they ignore it."""
    obeying: List[float] = []
    ignoring: List[float] = []
    bare: List[float] = []
    with setting.host() as host:
        paths = script(host, _OBEYING), script(host, _IGNORING)
        for number in range(setting.times(20)):
            bare.append(_bare())
            obeying.append(_kill(host, f"tree-{number}", paths[0]))
            ignoring.append(_kill(host, f"tree-{number}", paths[1]) - 1000 * _GRACE_SECONDS)
    bare_is = f"SIGTERM to all {_DAEMONS + 1}, until all are gone"
    return [
        Figure("obeys SIGTERM: call → reply", "ms", obeying, bare, bare_is, difference=True),
        Figure("ignores SIGTERM: call → reply, less the grace period", "ms", ignoring, bare, bare_is, difference=True),
    ]


def _kill(host: AgentHost, project: str, path: str) -> float:
    checked(host.launch(project, path), 201)
    host.wait_for_output(project, b"up")
    alive = host.project_processes(project)
    assert len(alive) == _DAEMONS + 1, list(map(str, alive))
    started = time.monotonic()
    reply = checked(host.kill(project, grace_seconds=_GRACE_SECONDS), 200)
    milliseconds = 1000 * (time.monotonic() - started)
    left = [process for process in alive if processes.is_alive(process)]
    assert not left and len(reply["killed"]) == len(alive), f"left: {left}; reply: {reply}"
    return milliseconds


def _bare() -> float:
    marker = f"bench-{os.getpid()}-{time.monotonic_ns()}"
    environ = {**os.environ, "TREE": marker}
    with subprocess.Popen(["/bin/sh", "-c", _OBEYING], stdout=subprocess.PIPE, env=environ) as root:
        assert root.stdout is not None
        root.stdout.readline()
        wait_until(lambda: len(_marked(marker)) == _DAEMONS + 1, 10, 0.01)
        tree = _marked(marker)
        started = time.monotonic()
        for pid in tree:
            os.kill(pid, signal.SIGTERM)
        ended = wait_until(lambda: not any(map(processes.look, tree)), 10)
    return 1000 * (ended - started)


def _marked(marker: str) -> List[int]:
    return [process.pid for process in processes.every() if processes.environment(process.pid).get("TREE") == marker]
