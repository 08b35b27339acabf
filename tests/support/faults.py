"""A build of the agent in which the N-th step that reaches the disk or the kernel's process table is its last.

Steps are counted over all its processes: each of them is a line in a file, and the one whose line is the N-th gets SIGKILL before
the step is done (`kill`), or takes every process of the store with it, projects included (`power`).
"""

from __future__ import annotations

import os

from tests.support import bundles
from tests.support.step_file import StepFile

FILES = "agent/host/files.py"
#: Nobody waits for the seconds that a real upgrade takes on purpose.
HASTE = (
    ("agent/shim/agent_turn.py", b"PROOF_SECONDS = 4.0", b"PROOF_SECONDS = 0.4"),
    ("agent/web/server.py", b"idle_seconds: float = 5.0", b"idle_seconds: float = 0.3"),
    ("agent/operations/reconcile.py", b"INTERVAL_SECONDS = 2.0", b"INTERVAL_SECONDS = 0.3"),
)
_HOOK = b'''
import signal

def _interrupt() -> None:
    kill, fork, fault, store, bystander = os.kill, os.fork, %r, %r, %r
    def of_the_store(pid):
        try:
            files = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            texts = [(read_bytes(f"/proc/{pid}/{name}") or b"") for name in ("cmdline", "environ")]
            return any(path.startswith(store) for path in files) or any(store.encode() in text for text in texts)
        except OSError:
            return False
    def end_everything():
        for number in (signal.SIGSTOP,) * 4 + (signal.SIGKILL,):  # they start each other again, and all have to end at once
            for name in os.listdir("/proc"):
                if name.isdigit() and int(name) not in (os.getpid(), bystander) and of_the_store(name):
                    try:
                        kill(int(name), number)
                    except ProcessLookupError:
                        pass
    def count(name, words):
        wanted = read_bytes(fault)
        if wanted is None:
            return
        mode, number = wanted.split()
        fd = os.open(fault + ".steps", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.write(fd, f"{os.getpid()} {name} {words}\\n".encode())
        if os.pread(fd, 1 << 20, 0).count(b"\\n") == int(number):
            if mode == b"power":
                if fork() == 0:  # from outside: this process has other threads, and they would start what has ended again
                    end_everything()
                    kill(os.getpid(), signal.SIGKILL)
                while True:
                    signal.pause()
            kill(os.getpid(), signal.SIGKILL)
        os.close(fd)
    def counted(name):
        call = getattr(os, name)
        def step(*words, **more):
            count(name, words)
            return call(*words, **more)
        return step
    for name in ("fsync", "rename", "symlink", "unlink", "link", "mkdir", "rmdir", "execv", "kill", "fork"):
        setattr(os, name, counted(name))

_interrupt()
'''


class Fault(StepFile):
    """Where an agent's processes look whether, and at which step, they are to end: `arm` with `kill` or `power`."""

    def __init__(self, directory: str, store: str) -> None:
        super().__init__(os.path.join(directory, "fault"))
        self._hook = _HOOK % (self.path, store, os.getpid())

    def build(self, pyz: str, directory: str, name: str) -> str:
        """A release of version `9.9-<name>` that ends where it is told to."""
        return bundles.release(pyz, directory, name, *HASTE, appended=(FILES, self._hook))
