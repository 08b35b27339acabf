"""Cycles: many launches and kills; what the agent and its shim hold afterwards, beside what they held before."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Set

from tests.bench import kernel
from tests.bench.figure import Figure
from tests.bench.peers.peer import below
from tests.bench.setting import FOREVER, Setting, checked, script
from tests.support.agent import AGENT, AgentHost
from tests.support.http import Response
from tests.support.wait import eventually

_WORKERS = 16
#: So many cycles of each worker, and what the agent's allocator keeps for itself hardly grows any more.
_WARM_UP = 25
_SETTLE_SECONDS = 30.0
#: What may differ by chance: allocators keep some of what they get.
_RESIDENT_SLACK = 2e6


@dataclass(frozen=True)
class State:
    """What could leak."""

    usage: Dict[str, Dict[str, int]]
    processes: int
    files: Set[str]


class Cycles:
    """The workers, each with a project of its own."""

    def __init__(self, host: AgentHost) -> None:
        self.busy = 0
        self._host = host

    def run(self, each: int) -> None:
        """Let every worker do `each` cycles, all workers at the same time."""
        with ThreadPoolExecutor(_WORKERS) as pool:
            list(pool.map(lambda worker: self._work(worker, each), range(_WORKERS)))

    def _work(self, worker: int, each: int) -> None:
        project = f"cycle-{worker}"
        for cycle in range(each):
            # every other artifact is new, so that both ways are taken: a new release, and one that is there
            path = script(self._host, "echo up\n" + FOREVER, salt=f"{worker} {cycle // 2}")
            self._until_admitted(lambda: self._host.launch(project, path), 201)  # noqa: B023
            reply = self._until_admitted(lambda: self._host.kill(project, grace_seconds=0), 200)
            assert reply["status"] == "Successful" and reply["survivors"] == [], reply
            os.unlink(path)

    def purge(self) -> None:
        """Every project goes, with all that it left on disk."""
        for worker in range(_WORKERS):
            checked(self._host.kill(f"cycle-{worker}", purge="true"), 200)

    def _until_admitted(self, call: Callable[[], Response], status: int) -> Dict[str, Any]:
        """The answer; a call that found no free slot (503) is sent again, as its caller is told to."""
        while True:
            response = call()
            if response.status != 503:
                return checked(response, status)
            self.busy += 1
            time.sleep(0.05)


def measure(setting: Setting) -> List[Figure]:
    """The base after a warm-up and a purge; the cycles; a purge; the same look again."""
    each = max(1, setting.cycles // _WORKERS)
    with setting.host() as host:
        cycles = Cycles(host)
        cycles.run(_WARM_UP)
        cycles.purge()
        before = _settled(host)
        started = time.monotonic()
        cycles.run(each)
        seconds = time.monotonic() - started
        in_project = len(kernel.files_below(host.path("projects", "cycle-0")))
        cycles.purge()
        after = _settled(host)
    cycled = Figure(
        f"{each * _WORKERS} cycles, {_WORKERS} at once", "cycles/s", [each * _WORKERS / seconds],
        note=f"{in_project} files in one project before its purge; {cycles.busy} calls were sent again after a 503",
    )  # fmt: skip
    return [cycled, *_compared(before, after)]


def _settled(host: AgentHost) -> State:
    """Once the last shims are gone: the agent, its shim, its unpacker and the worker that waits for the next artifact."""
    eventually(lambda: len(host.processes()) == 4, _SETTLE_SECONDS, lambda: ", ".join(map(str, host.processes())))
    unpacker, _ = below(host.agent_pid)
    who = {"agent": host.agent_pid, "agent's shim": host.shim_pid(AGENT), "unpacker": unpacker}
    # uploads and launches leave idle connections and threads that end by themselves
    eventually(lambda: not host.staging(), _SETTLE_SECONDS, lambda: str(host.staging()))
    usage = {name: kernel.usage(pid) for name, pid in who.items()}
    # a file of lines that is full has a second one beside it, which is its cap
    files = {name for name in kernel.files_below(host.store) if not name.endswith(".1.jsonl")}
    return State(usage, len(host.processes()), files)


def _compared(before: State, after: State) -> List[Figure]:
    figures = []
    for who, usage in after.usage.items():
        for what, value in usage.items():
            base = before.usage[who][what]
            scale, unit = (1e6, "MB") if what == "resident" else (1.0, "")
            leaked = value - base > (_RESIDENT_SLACK if what == "resident" else 0)
            note = f"LEAK: {value - base} more than at the base" if leaked else ""
            figures.append(_beside(f"{what} of the {who}", unit, value / scale, base / scale, note))
    figures.append(_beside("live processes", "", after.processes, before.processes, ""))
    new = sorted(after.files - before.files)
    note = f"LEAK: {', '.join(new[:10])}" if new else ""
    return [*figures, _beside("files in the store", "", len(after.files), len(before.files), note)]


def _beside(what: str, unit: str, value: float, base: float, note: str) -> Figure:
    return Figure(what, unit, [value], [base], "after the warm-up", "as before", note, difference=True)
