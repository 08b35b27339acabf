"""`logs`: a project's logs as a tar, or what it printed as text."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import stat
import sys
import tarfile
from typing import BinaryIO, cast

from agent.cli.options import client
from agent.cli.printing import ProgressLine
from agent.download import Download
from agent.errors import Unreachable, UsageError

EPILOG = """\
The tar holds the output's segments, oldest first, the shim's own events, the record and the history.

  ant-host-agent.pyz logs hello -o hello-logs.tar
  ant-host-agent.pyz logs hello --text | less
"""

_OUTPUT = re.compile(r"[^/]+/logs/output-\d+\.log")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `logs` takes."""
    parser.add_argument("project", metavar="PROJECT")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to (default: stdout, if it is no terminal)")
    parser.add_argument("--text", action="store_true", help="only what the project printed, as it printed it")


def run(args: argparse.Namespace) -> int:
    """Save the tar or print the text."""
    if args.output is None and not args.text and sys.stdout.isatty():
        raise UsageError("A tar is no sight for a terminal.", "Use -o FILE for the tar, or --text for the output.")
    with client(args).logs(args.project) as download:
        if args.output is None:
            _write(download, sys.stdout.buffer, args.text)
        elif _is_special(args.output):
            with open(args.output, "wb") as file:
                _write(download, file, args.text)
        else:
            _save(download, args.output, args.text)
    return 0


def print_output(download: Download, file: BinaryIO) -> None:
    """The output's segments one after the other, taken out of the tar while it arrives."""
    try:
        # The stream is never extracted: names are compared, contents are copied.
        with tarfile.open(mode="r|", fileobj=cast(BinaryIO, download)) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() and _OUTPUT.fullmatch(member.name) else None
                if content is not None:
                    shutil.copyfileobj(content, file)
    except tarfile.TarError as error:
        raise Unreachable(f"What arrived is no tar ({error}).", "Check the address: --url.") from error


def _write(download: Download, file: BinaryIO, text: bool) -> None:
    if text:
        print_output(download, file)
    else:
        download.save(file)
    file.flush()


def _save(download: Download, path: str, text: bool) -> None:
    """A file appears under its name when it is whole."""
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(part, "xb") as file, ProgressLine("downloading") as progress:
            if text:
                print_output(download, file)
            else:
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
