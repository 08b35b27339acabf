"""An agent whose store is a disk of its own: small enough to be filled, and easily made read-only."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import Iterator, List

import pytest

from tests.support.agent import AgentHost


def mount(*words: str) -> None:
    """mount(8); skips where that is not allowed."""
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("needs to mount a tmpfs")


def unmount(path: str) -> None:
    subprocess.run(["umount", "--lazy", path], check=True)


class SmallDisk(AgentHost):
    """The store is a tmpfs with these options (mount(8)), such as `size=150m`."""

    def __init__(self, pyz: str, python: str, options: str) -> None:
        super().__init__(pyz, python)
        mount("-t", "tmpfs", "-o", f"mode=0700,{options}", "tmpfs", self.store)

    def _put_down(self) -> None:
        try:
            super()._put_down()
        finally:
            unmount(self.store)

    def fill(self, *parts: str) -> str:
        """Write a file at this place in the store until nothing fits any more; its path."""
        path = self.path(*parts)
        with open(path, "ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass
        return path

    def use_up_inodes(self, *parts: str) -> str:
        """Make files in a folder at this place in the store until no name is taken any more; the folder."""
        folder = self.path(*parts)
        os.mkdir(folder)
        made: List[str] = []
        with contextlib.suppress(OSError):
            while True:
                made.append(f"{folder}/{len(made)}")
                os.close(os.open(made[-1], os.O_CREAT | os.O_WRONLY))
        return folder

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """For everything that is opened from now on: what is open already can still be written to."""
        mount("--bind", self.store, self.store)
        try:
            mount("-o", "remount,bind,ro", self.store)
            yield
        finally:
            unmount(self.store)
