"""The read side of a project's logs."""

from __future__ import annotations

from typing import Tuple, Union

from agent.errors import NotFound
from agent.host import files
from agent.operations.agent import Agent
from agent.store import releases
from agent.store.layout import ProjectLayout
from agent.store.logs import open_project_logs
from agent.store.logtar import LogTar
from agent.store.output import Output
from agent.store.streams import OneStream
from agent.store.text import Marked, Text, TextQuery, tail_begin
from agent.store.timeline import Timeline

_RUN_BYTES = 64 << 10


def tar(agent: Agent, project: str, etag: str = "") -> LogTar:
    """Everything there is to understand the project, as one tar to be streamed, of that snapshot if it can still be had.

    NotFound for an unknown project.
    """
    layout = agent.known(project).layout
    version = releases.current(layout)
    release = releases.read(layout, version) if version else None
    return open_project_logs(layout, release.logs.include if release else (), etag)


def text(agent: Agent, project: str, query: TextQuery) -> Union[Text, Marked]:
    """The lines that are asked for, to be streamed. NotFound for an unknown project, or a run or place that is not kept."""
    layout = agent.known(project).layout
    output = Output(layout) if query.stream is None else OneStream(layout, query.stream)
    try:
        begin, end = _stretch(layout, output, query)
        if query.tail is not None:
            begin = tail_begin(output, begin, end, query.tail, query.grep)
        # a mark within a line that was looked for is within one that was found
        is_inside = query.place is not None and bool(query.grep) and begin > 0 and output.read(begin - 1, begin) != b"\n"
        found = Text(output, begin, None if query.follow else end, query.grep, layout.root, is_inside)
        return Marked(found) if query.marks else found
    except BaseException:
        output.close()
        raise


def _stretch(layout: ProjectLayout, output: Output, query: TextQuery) -> Tuple[int, int]:
    """Begin and end of what is asked for, before it is looked at for lines."""
    begin, end = (0, output.size) if query.run is None else _run_bounds(layout, output, query.run)
    if query.place is not None:
        begin = _begin_at(output, query.place)
    timeline = Timeline(layout, output)
    try:
        if query.since is not None:
            begin = max(begin, timeline.since(query.since))
        if query.until is not None:
            end = min(end, timeline.until(query.until))
    finally:
        timeline.close()
    return min(begin, end), end


def _begin_at(output: Output, place: Tuple[int, int]) -> int:
    try:
        return output.position_of(place)
    except LookupError as error:
        raise NotFound(f"from: {error}: it was rotated away.", "Ask without it, for the oldest that is kept.") from error


def _run_bounds(layout: ProjectLayout, output: Output, run: int) -> Tuple[int, int]:
    """Where the output of one run (0: the last) begins and ends, by the positions in the shim's events."""
    starts = [line for line in files.read_lines(layout.events) if line.get("event") == "start"]
    index = next((n for n, line in enumerate(starts) if line["run"] == run), len(starts) - 1 if run == 0 else None)
    if index is None:
        first = starts[0]["run"] if starts else 0
        raise NotFound(f"run: there is no run {run} of {layout.project}.", f"Runs from {first} on are kept; 'last' is one, too.")
    ends = [output.position(line["segment"], line["offset"]) for line in starts[index : index + 2] if index >= 0]
    return (ends[0] if ends else output.size), (ends[1] if len(ends) > 1 else output.size)


def run_output(layout: ProjectLayout, run: int) -> bytes:
    """What one run wrote, at most its last 64 KiB."""
    output = Output(layout)
    try:
        begin, end = _run_bounds(layout, output, run)
        parts = []
        at = max(begin, end - _RUN_BYTES)
        while at < end:
            parts.append(output.read(at, end))
            at += len(parts[-1])
        return b"".join(parts)
    except NotFound:
        return b""
    finally:
        output.close()
