"""A million numbered lines through rotation, while the shim is killed again and again: what comes back in the tar."""

from __future__ import annotations

from typing import List

from tests.bench.figure import Figure
from tests.bench.setting import FOREVER, Setting, checked, script, wait_until
from tests.support.agent import AgentHost

_LINES = 1_000_000
_KILLS = 5


def measure(setting: Setting) -> List[Figure]:
    """Lost and repeated lines; 0 of both from Python 3.10 on, where splice(2) moves the output."""
    lines = _LINES // 10 if setting.quick else _LINES
    with setting.host() as host:
        numbers = f'for i in 1 2 3 4 5 6 7 8 9 10; do seq -f "$i %08.0f" 1 {lines // 10}; sleep 0.3; done'
        logs = {"segment_bytes": 1 << 20, "segments": 100}
        checked(host.launch("numbered", script(host, f"{numbers}\necho end\n{FOREVER}", logs=logs)), 201)
        for _ in range(_KILLS):
            _replace_shim(host)
        wait_until(lambda: host.project_output("numbered").endswith(b"end\n"), 120, 0.1)
        found = host.project_output("numbered").splitlines()[:-1]
        wanted = [b"%d %08d" % (part, line) for part in range(1, 11) for line in range(1, lines // 10 + 1)]
        lost, repeated = len(wanted) - len(set(found) & set(wanted)), len(found) - len(set(found))
        note = f"{len(wanted)} lines, {_KILLS} deaths of the shim; {'in' if found == sorted(found, key=_key) else 'out of'} order"
    return [
        Figure("numbered lines lost", "lines", [lost], goal="0", note=note),
        Figure("numbered lines repeated or torn", "lines", [repeated], goal="0"),
    ]


def _key(line: bytes) -> List[int]:
    return [int(word) for word in line.split()]


def _replace_shim(host: AgentHost) -> None:
    dead = host.crash_shim("numbered").pid
    wait_until(lambda: host.record("numbered")["shim"]["pid"] != dead, 60, 0.01)
