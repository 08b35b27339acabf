"""A terminal of a test's own: a program's whole output as it would stand there, colours and all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pty
import struct
import subprocess
import termios
from typing import Mapping, Sequence, Tuple


def run(command: Sequence[str], environ: Mapping[str, str], columns: int = 100) -> Tuple[int, str]:
    """The exit code and the text of a program whose three streams are a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env={**environ, "TERM": "xterm"}, cwd="/")
    os.close(theirs)
    received = b""
    with contextlib.closing(open(ours, "rb", buffering=0)) as stream:
        while True:
            try:
                data = stream.read(65536)
            except OSError as error:
                if error.errno != errno.EIO:  # the other side is closed (pty(7))
                    raise
                break
            if not data:
                break
            received += data
    return process.wait(), received.decode(errors="replace").replace("\r\n", "\n")
