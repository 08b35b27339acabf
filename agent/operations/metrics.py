"""Metrics: the status of all projects and of the host as Prometheus reads it (text format 0.0.4)."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

from agent.build import own_build
from agent.host import clock, files
from agent.operations.agent import Agent
from agent.operations.status import describe_all
from agent.shim import machine

_PREFIX = "ant_host_agent_"

Status = Dict[str, Any]
Sample = Tuple[Mapping[str, str], Optional[float]]

#: What is told of each project: name, type, help, value (None: there is none now).
_OF_A_PROJECT: Tuple[Tuple[str, str, str, Callable[[Status], Optional[float]]], ...] = (
    ("project_wanted", "gauge", "1 where the project is wanted up.", lambda status: float(status["want"] == "up")),
    ("project_ready", "gauge", "1 where the project is ready.", lambda status: float(status["state"] == machine.READY)),
    ("project_restarts", "gauge", "Restarts in a row since the last launch.", lambda status: status["restarts"]),
    ("project_runs_total", "counter", "Runs so far.", lambda status: status["run"]),
    ("project_cpu_seconds", "gauge", "Processor time of the run.", lambda status: status["cpu_seconds"]),
    ("project_memory_bytes", "gauge", "Resident memory of the run's processes.", lambda status: status["memory_bytes"]),
    ("project_processes", "gauge", "Processes of the run.", lambda status: status["processes"]),
    ("project_log_bytes", "gauge", "Bytes of logs on disk.", lambda status: status["log_bytes"]),
    ("project_uptime_seconds", "gauge", "Age of the run.", lambda status: status["uptime_seconds"]),
)


def metrics(agent: Agent) -> str:
    """The whole text."""
    statuses = describe_all(agent)["projects"]
    return "".join(_families(agent, statuses))


def _families(agent: Agent, statuses: List[Status]) -> Iterator[str]:
    space = files.free_space(agent.store.root)
    build = own_build()
    labels = {"version": build.version, "digest": build.digest or ""}
    yield _family("info", "gauge", "The agent's build.", [(labels, 1.0)])
    yield _family("start_time_seconds", "gauge", "When the agent started, since the epoch.", [({}, round(agent.started_at, 3))])
    yield _family("store_free_bytes", "gauge", "Free bytes of the store's file system.", [({}, space.free_bytes)])
    yield _family("store_free_inodes", "gauge", "Free inodes of the store's file system.", [({}, space.free_inodes)])
    counts = {state: sum(status["state"] == state for status in statuses) for state in machine.STATES}
    yield _family("projects", "gauge", "Projects by state.", [({"state": state}, count) for state, count in counts.items()])
    for name, kind, about, value in _OF_A_PROJECT:
        yield _family(name, kind, about, [({"project": status["project"]}, value(status)) for status in statuses])
    yield _family("project_last_exit_timestamp_seconds", "gauge", "When the last run ended.", [_last_exit(s) for s in statuses])


def _last_exit(status: Status) -> Sample:
    labels = {"project": status["project"]}
    if not status["exits"]:
        return labels, None
    last = status["exits"][-1]
    return {**labels, "cause": last["exit_cause"]["kind"]}, clock.from_timestamp(last["at"])


def _family(name: str, kind: str, about: str, samples: List[Sample]) -> str:
    whole = _PREFIX + name
    lines = [f"{whole}{_labels(labels)} {_number(value)}\n" for labels, value in samples if value is not None]
    return f"# HELP {whole} {about}\n# TYPE {whole} {kind}\n" + "".join(lines)


def _labels(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return "{" + pairs + "}" if pairs else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return repr(value) if isinstance(value, int) else f"{value:.15g}"
