"""An agent whose store is a disk of its own: small enough to be filled, and easily made read-only."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import uuid
from typing import Iterator, List

import pytest

from tests.support import bundles
from tests.support.agent import AgentHost

#: EXT4_IOC_SHUTDOWN (linux/fs/ext4/ext4.h) with EXT4_GOING_FLAGS_NOLOGFLUSH: from here on nothing reaches the disk.
_SHUTDOWN, _WITHOUT_FLUSH = 0x8004587D, 2
_IMAGE_BYTES = 256 << 20
#: An agent whose boot has the id that stands in a file.
_BOOTED = b'''
def boot_id() -> str:
    return (read_bytes(%r) or b"").decode()
'''


def mount(*words: str) -> None:
    """mount(8); skips where that is not allowed."""
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("needs to mount a tmpfs" if "tmpfs" in words else "needs to mount a disk image")


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


class PoweredDisk(AgentHost):
    """The store is an ext4 of its own, the power of which can be cut: what was not synced is lost, and another boot follows."""

    def __init__(self, pyz: str, python: str) -> None:
        super().__init__(pyz, python)
        self._boot = os.path.join(self.base, "boot")
        self._image = os.path.join(self.base, "disk")
        self.pyz = bundles.release(pyz, self.base, "booted", appended=("agent/host/procfs.py", _BOOTED % self._boot))
        with open(self._image, "wb") as image:
            image.truncate(_IMAGE_BYTES)
        subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-F", self._image], check=True)
        self._begin_boot()
        os.chmod(self.store, 0o700)

    def _begin_boot(self) -> None:
        mount("-o", "loop", self._image, self.store)
        with open(self._boot, "w", encoding="ascii") as file:
            file.write(str(uuid.uuid4()))

    def _put_down(self) -> None:
        try:
            super()._put_down()
        finally:
            unmount(self.store)

    def cut_power(self) -> None:
        """Everything of the host ends at once, and what is in its memory goes; the disk is as it was when this was called."""
        store = os.open(self.store, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(store, _SHUTDOWN, struct.pack("I", _WITHOUT_FLUSH))
        finally:
            os.close(store)
        self.end_at_once()
        shutil.rmtree(f"/dev/shm/ant-host-agent-{os.geteuid()}{self.store}", ignore_errors=True)
        subprocess.run(["umount", self.store], check=True)

    def boot(self) -> None:
        """Power is back; returns once the agent answers."""
        self._begin_boot()
        self.start()
