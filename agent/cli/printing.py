"""What people see: sentences, tables, a progress line. What comes from a project is made harmless first."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence, TextIO

_REDRAW_SECONDS = 0.1
_BAR = 24
_COLOURS = {"red": "31", "green": "32", "yellow": "33", "dim": "2", "bold": "1"}
#: States in the colours that operators expect; another state has none.
STATE_COLOURS = {
    "ready": "green", "running": "green", "starting": "yellow", "stopping": "yellow", "backoff": "yellow",
    "failed": "red", "exited": "dim",
}  # fmt: skip


def has_colours(stream: Optional[TextIO] = None, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a stream shows colours: a terminal that can, and no NO_COLOR (no-color.org)."""
    return (stream or sys.stdout).isatty() and not environ.get("NO_COLOR") and environ.get("TERM", "") not in ("", "dumb")


def paint(text: str, colour: str) -> str:
    """The text in a colour, where stdout shows any."""
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if colour in _COLOURS and has_colours() else text


def printable(value: object) -> str:
    """One line without control characters: a project's text must not steer the terminal."""
    text = "-" if value is None or value == "" else str(value)
    return "".join(char if char.isprintable() else "?" for char in text.replace("\n", " "))


def print_json(document: Dict[str, Any]) -> None:
    """The raw reply."""
    print(json.dumps(document, indent=2))


def print_table(rows: Sequence[Sequence[object]]) -> None:
    """Rows, the first being the header: aligned, cut to its width and coloured on a terminal, tab-separated when piped."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in cells:
            print("\t".join(row))
        return
    width = shutil.get_terminal_size().columns
    lines = [line if len(line) <= width else line[: width - 1] + "…" for line in aligned(cells)]
    column = cells[0].index("STATE") if "STATE" in cells[0] else 0
    begin = sum(max(map(len, other)) + 2 for other in list(zip(*cells))[:column])
    print(paint(lines[0], "bold"))
    for row, line in zip(cells[1:], lines[1:]):
        end = begin + len(row[column])
        print(line[:begin] + paint(line[begin:end], STATE_COLOURS.get(row[column], "")) + line[end:])


def aligned(cells: Sequence[Sequence[str]]) -> List[str]:
    """Lines whose columns are as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*cells)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]


def print_launch(reply: Dict[str, Any]) -> None:
    """The verdict on a launch, restart or rollback in a sentence, its steps below it, warnings on stderr."""
    for warning in reply.get("warnings") or ():
        sys.stderr.write(f"ant-host-agent: warning: {printable(warning)}\n")
    print(launch_sentence(reply))
    steps = reply.get("steps") or ()
    for line in aligned([(f"  {printable(step.get('name'))}", f"{step.get('seconds') or 0:.3f} s") for step in steps]):
        print(line)


def launch_sentence(reply: Dict[str, Any]) -> str:
    """`web 2 is up (ready, pid 7) and replaces 1.`"""
    named = f"{printable(reply.get('project'))} {printable(reply.get('version'))}"
    running = f"{printable(reply.get('state') or 'started')}, pid {printable(reply.get('pid'))}"
    if reply.get("status") == "AlreadyRunning":
        return f"{named} was there already ({running}); nothing had to change."
    before = reply.get("replaced")
    replaced = f" and replaces {printable(before)}" if before and before != reply.get("version") else ""
    return f"{named} is up ({running}){replaced}."


def duration(seconds: object) -> str:
    """`4 d 3 h`, `12 min 5 s`: the two largest units."""
    if not isinstance(seconds, (int, float)):
        return "-"
    left = int(seconds)
    parts: List[str] = []
    for size, unit in (86400, "d"), (3600, "h"), (60, "min"), (1, "s"):
        count, left = divmod(left, size)
        if count or parts or unit == "s":
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


class ProgressLine:
    """One line on stderr that is drawn over itself, on a terminal only; gone when it is closed."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._shown = sys.stderr.isatty()
        self._started = time.monotonic()
        self._drawn = 0.0

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the line away."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = 0.0

    def __call__(self, done_bytes: int, all_bytes: int) -> None:
        now = time.monotonic()
        if self._shown and now - self._drawn >= _REDRAW_SECONDS:
            self._drawn = now
            sys.stderr.write("\r\x1b[K" + progress_text(self._verb, done_bytes, all_bytes, now - self._started))
            sys.stderr.flush()


def progress_text(verb: str, done_bytes: int, all_bytes: int, seconds: float) -> str:
    """`uploading ██████░░ 25 % of 48.0 MB, 6.0 MB/s, 6 s left`; without a total (0) there is no bar and no end."""
    rate = done_bytes / 1e6 / max(seconds, 1e-3)
    if not all_bytes:
        return f"{verb} {done_bytes / 1e6:.1f} MB, {rate:.1f} MB/s"
    share = min(1.0, done_bytes / all_bytes)
    bar = "█" * int(share * _BAR) + "░" * (_BAR - int(share * _BAR))
    left = f", {duration((all_bytes - done_bytes) / 1e6 / rate)} left" if 0 < share < 1 and rate else ""
    return f"{verb} {bar} {100 * share:.0f} % of {all_bytes / 1e6:.1f} MB, {rate:.1f} MB/s{left}"
