"""How much an artifact may ask of a host, and what it has used so far."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from agent.errors import ArtifactFault, StorageFull
from agent.host.files import Space

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True)
class Limits:
    """The caps of one unpacking. Sizes are bytes as they are on disk, after decompression."""

    entries: int = 100_000
    total_bytes: int = 4 * GIB
    member_bytes: int = 2 * GIB
    path_bytes: int = 1024
    part_bytes: int = 255
    depth: int = 40
    #: Output over input of a decompressor; the first `ratio_free_bytes` of output are not held to it.
    ratio: int = 250
    ratio_free_bytes: int = 16 * MIB
    xz_memory_bytes: int = 128 * MIB
    #: One pax or GNU extension header of a tar; the whole central directory of a zip.
    extension_bytes: int = 64 * KIB
    directory_bytes: int = 64 * MIB
    #: The map of one sparse file in a tar.
    sparse_bytes: int = MIB
    seconds: float = 600.0
    #: What must stay free on the disk and in its inode table when a file has been written.
    reserve_bytes: int = 64 * MIB
    reserve_inodes: int = 1000


DEFAULT = Limits()


def reserve_bytes(space: Space) -> int:
    """What stays free for the running projects: 2 % of the disk, at least 64 MiB, at most 1 GiB."""
    return max(DEFAULT.reserve_bytes, min(space.total_bytes // 50, GIB))


class Budget:
    """What one unpacking has used of its limits.

    Every method raises ArtifactFault once a limit is passed, StorageFull where the disk is at fault.
    """

    def __init__(self, limits: Limits, directory_fd: int) -> None:
        self._limits = limits
        self._directory_fd = directory_fd
        self._deadline = time.monotonic() + limits.seconds
        self._entries = 0
        self._bytes = 0

    def take_entry(self) -> None:
        """Count one member or one directory made for it."""
        self._entries += 1
        if self._entries > self._limits.entries:
            raise ArtifactFault(
                f"The archive has more than {self._limits.entries} entries.",
                "Leave out caches and build output, or ship such a tree as one file inside the archive.",
            )
        self.check_clock()

    def take_bytes(self, size: int) -> None:
        """Count a file of `size` bytes that is about to be written, and see that the disk has room for it."""
        self._bytes += size
        if self._bytes > self._limits.total_bytes:
            raise ArtifactFault(
                f"The archive unpacks to more than {self._limits.total_bytes} bytes.",
                "Ship less in the artifact; let the project fetch large data into its $PERSIST_DIR.",
            )
        disk = os.fstatvfs(self._directory_fd)
        free = disk.f_bavail * disk.f_frsize
        if free < size + self._limits.reserve_bytes:
            raise StorageFull(f"Unpacking needs {size} bytes more; {free} are free and some must stay so.")
        # A file system without an inode table (btrfs) says 0 of 0.
        if disk.f_files and disk.f_favail < self._limits.reserve_inodes:
            raise StorageFull(f"The disk has only {disk.f_favail} inodes left.")

    def check_clock(self) -> None:
        """Give up on an archive that keeps the host busy for too long."""
        if time.monotonic() > self._deadline:
            raise ArtifactFault(
                f"The archive was not unpacked within {self._limits.seconds:g} seconds.",
                "Ship less in the artifact, or fewer files.",
            )
