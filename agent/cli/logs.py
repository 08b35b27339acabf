"""`logs`: a project's logs as a tar, or what it printed as text."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import stat
import sys
from typing import BinaryIO, ContextManager, Dict, Iterator, Optional, Union

from agent.cli.follow import follow
from agent.cli.options import client
from agent.cli.printing import ProgressLine
from agent.download import Download
from agent.errors import UsageError

EPILOG = """\
The tar holds the output's segments, oldest first, the shim's own events, crash capsules, the record and
the history. Each option that chooses lines asks for text.

  ant-host-agent.pyz logs hello -o hello-logs.tar
  ant-host-agent.pyz logs hello -f --tail 20
  ant-host-agent.pyz logs hello --since 10m --grep ERROR
  ant-host-agent.pyz logs hello --run last | less
"""

#: The options that choose lines, which are parameters of the call, too.
_CHOICES = ("stream", "tail", "since", "until", "grep", "run")
_AGO = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `logs` takes."""
    parser.add_argument("project", metavar="PROJECT")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to (default: stdout, if it is no terminal)")
    parser.add_argument("--text", action="store_true", help="only what the project printed, as it printed it")
    lines = parser.add_argument_group("which lines, as text")
    lines.add_argument("-f", "--follow", action="store_true", help="go on with what comes, until Ctrl-C")
    lines.add_argument("--stream", choices=("stdout", "stderr"), help="one of them, where the release has them told apart")
    lines.add_argument("-n", "--tail", metavar="N", type=int, help="the last N lines")
    lines.add_argument("--since", metavar="WHEN", help="from then on: 90s, 10m, 2h, 1d (ago), or 2026-01-31T12:04:31Z")
    lines.add_argument("--until", metavar="WHEN", help="up to then")
    lines.add_argument("--grep", metavar="TEXT", help="lines with this text in them, as it is, no pattern")
    lines.add_argument("--run", metavar="N", help="what one run printed: its number, or last", dest="of_run")


def run(args: argparse.Namespace) -> int:
    """Save the tar or print the text."""
    query = dict(_query(args))
    is_text = args.text or bool(query)
    if args.output is None and not is_text and sys.stdout.isatty():
        raise UsageError("A tar is no sight for a terminal.", "Use -o FILE for the tar, or --text for the output.")
    agent = client(args)
    if args.follow:
        with _sink(args.output) as file:
            follow(agent, args.project, query, file)
    with agent.text(args.project, **query) if is_text else agent.logs(args.project) as download:
        if args.output is None:
            _write(download, sys.stdout.buffer)
        elif _is_special(args.output):
            with _sink(args.output) as file:
                _write(download, file)
        else:
            _save(download, args.output)
    return 0


def _query(args: argparse.Namespace) -> Iterator[tuple[str, Union[str, int]]]:
    given: Dict[str, Union[str, int, None]] = {**vars(args), "run": args.of_run}
    for name in _CHOICES:
        value = given[name]
        if value is not None:
            yield name, _moment(value) if name in ("since", "until") else value
    if args.follow:
        yield "follow", "true"


def _moment(text: object) -> str:
    """`10m` as the seconds that the call takes; anything else as it is, for the agent to judge."""
    found = _AGO.fullmatch(str(text))
    return str(int(found[1]) * _SECONDS[found[2]]) if found else str(text)


def _sink(path: Optional[str]) -> ContextManager[BinaryIO]:
    """What is written to while it comes."""
    if path is None:
        return contextlib.nullcontext(sys.stdout.buffer)
    try:
        return open(path, "wb")
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}.", "Name another file with -o.") from error


def _write(download: Download, file: BinaryIO) -> None:
    """Each piece as it arrives."""
    for data in iter(download.arriving, b""):
        file.write(data)
        file.flush()


def _save(download: Download, path: str) -> None:
    """A file appears under its name when it is whole."""
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(part, "xb") as file, ProgressLine("downloading") as progress:
            download.save(file, progress)
        os.replace(part, path)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}.", "Name another file with -o.") from error
    finally:
        if os.path.exists(part):
            os.unlink(part)


def _is_special(path: str) -> bool:
    """Whether the path is a pipe or device: there is nothing to rename over."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False
