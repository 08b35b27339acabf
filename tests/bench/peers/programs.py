"""What every manager is given to run, and what is asked of its output. Each program tells who it is by its arguments."""

from __future__ import annotations

import os
import signal
import sys
from typing import Dict, List, Sequence, Set

PYTHON = os.path.realpath(sys.executable)
LINES, LINE_BYTES = 2_000_000, 72
LAST = b"%09d" % (LINES - 1)

_NUMBERS = """
import os, sys
out = os.fdopen(1, 'wb', 1 << 16)
for number in range(int(sys.argv[2])):
    out.write(b'%09d a line of sixty-four bytes, as a program would print it.....\\n' % number)
out.flush()
import signal
signal.pause()
"""
#: Numbers into its standard output, each noted in a file of its own once it is written.
_WRITER = """
import os, signal, sys, time
signal.signal(signal.SIGPIPE, signal.SIG_IGN if sys.argv[3] == 'deaf' else signal.SIG_DFL)
note = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
number = 0
while True:
    try:
        os.write(1, b'%09d\\n' % number)
    except OSError:
        pass
    os.write(note, b'%09d\\n' % number)
    number += 1
    time.sleep(0.001)
"""
_TREE = """
import os, signal, sys, time
def stay(deaf):
    if deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1000)
for deaf in (False, True):
    if os.fork() == 0:
        stay(deaf)
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    stay(True)
print('up', flush=True)
stay(False)
"""


def sleeper() -> List[str]:
    """Says `up` and its pid, then sleeps."""
    return ["/bin/sh", "-c", "echo up $$; exec sleep 2147483646"]


def told(output: bytes) -> List[int]:
    """The pids of the sleepers that said so and are alive, the last one at the end."""
    found = []
    for pid in (int(words.split()[0]) for words in output.split(b"up ")[1:] if words.split()):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if file.read() == b"sleep\x002147483646\0":
                    found.append(pid)
        except OSError:
            continue
    return found


def numbers(token: str) -> List[str]:
    return [PYTHON, "-I", "-S", "-c", _NUMBERS, token, str(LINES)]


def writer(token: str, note: str, deaf: bool) -> List[str]:
    return [PYTHON, "-I", "-S", "-c", _WRITER, token, note, "deaf" if deaf else "usual"]


def tree(token: str) -> List[str]:
    """The leader, a child, one that ignores SIGTERM, and a daemon that forked twice and ignores it, too: four processes."""
    return [PYTHON, "-I", "-S", "-c", _TREE, token]


def alive(token: str) -> List[int]:
    """The live processes that have this token among their arguments."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
            with open(f"/proc/{name}/stat", "rb") as file:
                state = file.read().rpartition(b")")[2].split()[0]
        except OSError:
            continue
        if token.encode() in words and state not in (b"Z", b"X"):
            found.append(int(name))
    return found


def kill(pids: Sequence[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def numbers_in(data: bytes) -> Set[int]:
    """The numbers at the beginning of whole lines."""
    return {int(line[:9]) for line in data.splitlines() if line[:9].isdigit()}


def lost(written: Set[int], read: Set[int]) -> int:
    return len(written - read)


#: What a peer is asked to run besides: what is started one by one, and all at once.
SINGLE, MANY, CAPTURES = 20, 100, 3


def every(base: str) -> Dict[str, List[str]]:
    """The command of each project that a peer is configured with."""
    sleepers = [*(f"p{number}" for number in range(SINGLE)), *(f"m{number}" for number in range(MANY)), "kept"]
    return {
        **{project: sleeper() for project in sleepers},
        **{f"numbers{number}": numbers(f"ant-peer-numbers{number}") for number in range(CAPTURES)},
        "tree": tree("ant-peer-tree"),
        "silent": [PYTHON, "-I", "-S", "-c", "import signal; signal.pause()", "ant-peer-silent"],
        "usual": writer("ant-peer-usual", f"{base}/usual.written", deaf=False),
        "deaf": writer("ant-peer-deaf", f"{base}/deaf.written", deaf=True),
    }
