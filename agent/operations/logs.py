"""The read side of a project's logs."""

from __future__ import annotations

from agent.host import files
from agent.operations.agent import Agent
from agent.store import releases
from agent.store.layout import ProjectLayout
from agent.store.logs import LogTar, open_project_logs
from agent.store.segments import segment_name, segment_numbers

_RUN_BYTES = 64 << 10


def tar(agent: Agent, project: str) -> LogTar:
    """Everything there is to understand the project, as one tar to be streamed. NotFound for an unknown project."""
    layout = agent.known(project).layout
    version = releases.current(layout)
    release = releases.read(layout, version) if version else None
    return open_project_logs(layout, release.logs.include if release else ())


def run_output(layout: ProjectLayout, run: int) -> bytes:
    """What one run wrote, at most its last 64 KiB, found by the positions in the shim's events."""
    starts = [line for line in files.read_lines(layout.events) if line.get("event") == "start"]
    begin = next((line for line in reversed(starts) if line["run"] == run), None)
    if begin is None:
        return b""
    end = next((line for line in starts if line["run"] == run + 1), None)
    output = b""
    for number in segment_numbers(layout.logs):
        if number < begin["segment"] or (end is not None and number > end["segment"]):
            continue
        data = files.read_bytes(f"{layout.logs}/{segment_name(number)}") or b""
        stop = end["offset"] if end is not None and number == end["segment"] else len(data)
        output = (output + data[begin["offset"] if number == begin["segment"] else 0 : stop])[-_RUN_BYTES:]
    return output
