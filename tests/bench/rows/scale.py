"""Scale: what one agent costs with ten, a hundred and a thousand projects at work, as curves."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Dict, Iterable, List, Tuple

from tests.bench import kernel, plot
from tests.bench.figure import Figure, quantile
from tests.bench.rows.launch import first_byte
from tests.bench.setting import FOREVER, Setting, checked, script
from tests.support.agent import AGENT, AgentHost

_AT_ONCE = 12
_SCRIPT = "echo first line\n" + FOREVER

Costs = Dict[str, List[Tuple[float, float]]]


def measure(setting: Setting) -> List[Figure]:
    """The same questions after each step. Everything that is a curve is also drawn."""
    steps = (5, 20) if setting.quick else (10, 100, 300, 1000)
    costs: Costs = {}
    with setting.host() as host:
        path = script(host, _SCRIPT)
        there = 0
        for count in steps:
            _launch_all(host, path, range(there, count))
            there = count
            time.sleep(3)  # what a launch leaves to do is no idle cost
            for what, value in _costs(host, setting, count).items():
                costs.setdefault(what, []).append((count, value))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda number: checked(host.kill(f"s{number}", grace_seconds=0), 200), range(there)))
    drawn = plot.write(setting.plots, "projects", "What projects at work cost one agent", "projects at work", costs)
    return as_figures(costs, f"at {', '.join(map(str, steps))} projects", f"drawn in {drawn}")


def as_figures(costs: Costs, at: str, note: str) -> List[Figure]:
    """A line for each curve, whose points are in its note; its samples are their values."""
    figures = []
    for name, curve in costs.items():
        what, _, unit = name.rpartition(", ")
        figures.append(Figure(f"{what}, {at}", unit, [y for _, y in curve], goal="flat", note=f"{_points(curve)}; {note}"))
    return figures


def _points(curve: List[Tuple[float, float]]) -> str:
    return ", ".join(f"{x:g}: {y:.3g}" for x, y in curve)


def median_milliseconds(times: int, act: Callable[[], object]) -> float:
    """How long it takes, the median of so many times."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        act()
        taken.append(1000 * (time.perf_counter() - started))
    return quantile(taken, 0.5)


def _launch_all(host: AgentHost, path: str, numbers: Iterable[int]) -> None:
    def launch(number: int) -> None:
        while True:
            answer = host.launch(f"s{number}", path)
            if answer.status != 503:  # as many as there is room for are under way
                checked(answer, 201)
                return
            time.sleep(0.1)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(launch, numbers))


def _costs(host: AgentHost, setting: Setting, count: int) -> Dict[str, float]:
    seconds = 4 if setting.quick else 12
    agent, own, shims = [host.agent_pid], [host.shim_pid(AGENT)], [host.shim_pid(f"s{number}") for number in range(count)]
    before = [kernel.spent(pids) for pids in (agent, own, shims)]
    time.sleep(seconds)
    spent = [(now - then) / seconds for pids, then in zip((agent, own, shims), before) for now in [kernel.spent(pids)]]
    milliseconds, wakeups = sum(one.milliseconds for one in spent), sum(one.wakeups for one in spent)
    launches = []
    for number in range(setting.times(5)):
        path = script(host, _SCRIPT, salt=f"{count} {number}")
        launches.append(first_byte(host, "one-more", path, 0)[0])
        checked(host.kill("one-more", grace_seconds=0, purge="true"), 200)
    return {
        "idle processor time of agent and all shims, ms/s": milliseconds,
        "idle wake-ups of agent and all shims, 1/s": wakeups,
        "GET /project, a project, ms": median_milliseconds(10, lambda: checked(host.request("GET", "/project"), 200)) / count,
        "GET /project/<id>, ms": median_milliseconds(50, lambda: checked(host.request("GET", "/project/s0"), 200)),
        "launch → first line of one more, ms": quantile(launches, 0.5),
        "PSS of the agent, MB": kernel.pss_bytes(agent[0]) / 1e6,
        "PSS of a shim, MB": quantile([kernel.pss_bytes(pid) / 1e6 for pid in shims[:100]], 0.5),
    }
