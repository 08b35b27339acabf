"""A build of the agent whose disk refuses the N-th write, fsync, rename, open for writing, mkdir or link in the store.

Steps are counted over all its processes: each is a line in a file. The confined worker that unpacks can't read which one is
to be refused, so its are not among them.
"""

from __future__ import annotations

import os

from tests.support import bundles
from tests.support.step_file import StepFile

_HOOK = b'''
def _refuse() -> None:
    fault, store = %r, %r
    real = {name: getattr(os, name) for name in ("open", "write", "fsync", "rename", "mkdir", "link", "symlink")}
    def step(name, path):
        try:
            wanted = read_bytes(fault)
        except OSError:
            return
        if wanted is None or not os.fspath(path).startswith(store):
            return
        code, number = map(int, wanted.split())
        fd = real["open"](fault + ".steps", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        real["write"](fd, f"{os.getpid()} {name} {path}\\n".encode())
        count = os.pread(fd, 1 << 20, 0).count(b"\\n")
        os.close(fd)
        if count == number:
            raise OSError(code, os.strerror(code), path)
    def of_path(name):
        def call(*words, **more):
            step(name, words[-1] if name in ("rename", "link", "symlink") else words[0])
            return real[name](*words, **more)
        return call
    def of_descriptor(name):
        def call(fd, *words):
            step(name, os.readlink(f"/proc/self/fd/{fd}"))
            return real[name](fd, *words)
        return call
    def opened(path, flags, *words, **more):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            step("open", path)
        return real["open"](path, flags, *words, **more)
    for name in ("rename", "mkdir", "link", "symlink"):
        setattr(os, name, of_path(name))
    for name in ("write", "fsync"):
        setattr(os, name, of_descriptor(name))
    os.open = opened

_refuse()
'''


class Refusal(StepFile):
    """Which step the disk refuses: `arm` with the number of an error (errno.EIO)."""

    def __init__(self, directory: str) -> None:
        super().__init__(os.path.join(directory, "refusal"))

    def build(self, pyz: str, directory: str, store: str) -> str:
        """A release of version `9.9-refused` whose disk refuses what it is told to."""
        hook = _HOOK % (self.path, store)
        return bundles.release(pyz, directory, "refused", appended=("agent/host/files.py", hook))
