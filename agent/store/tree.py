"""A release being written: directory descriptors only, nothing followed, nothing overwritten.

What a name means is decided from this archive's own members, never from what the disk says, and
symlinks are written last: so no member can be written through another one (the whole family of
CVE-2007-4559, CVE-2018-1002100, CVE-2025-4517).
"""

from __future__ import annotations

import contextlib
import os
from typing import Dict, Iterable, Iterator, List, Tuple

from agent.host import files
from agent.store.limits import Budget, Limits
from agent.store.names import Path, archive_refusal, refusal

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY, _FILE, _LINK = "directory", "file", "symlink"
#: As Linux (path_resolution(7)): more symlinks in one resolution are a loop.
_MAX_HOPS = 40
_OPEN_DESCRIPTORS = 64


class Tree:
    """Writes one archive's members below an empty directory; a context manager, for its descriptors.

    All methods raise ArtifactFault for what the archive may not hold. Modes become 0755 or 0644,
    whatever the umask; owners, times, setuid bits and attributes are not taken over.
    """

    def __init__(self, directory: str, limits: Limits) -> None:
        self._limits = limits
        self._descriptors: Dict[Path, int] = {(): os.open(directory, _OPEN_DIRECTORY)}
        self._budget = Budget(limits, self._descriptors[()])
        self._kinds: Dict[Path, str] = {(): _DIRECTORY}
        self._links: Dict[Path, str] = {}
        self._link_steps = 0

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)

    def add_directory(self, path: Path) -> None:
        """Make a directory and its missing parents; one that the archive named before stays as it is."""
        if self._kinds.get(path) == _DIRECTORY:
            self._budget.take_entry()
        for length in range(1, len(path) + 1):
            self._make_directory(path[:length])

    def add_file(self, path: Path, size: int, chunks: Iterable[bytes], executable: bool) -> None:
        """Write a new file. `chunks` yields exactly `size` bytes, or raises."""
        with self._new_file(path, size, executable) as descriptor:
            for chunk in chunks:
                files.write_all(descriptor, chunk)
                self._budget.check_clock()

    def add_sparse_file(self, path: Path, size: int, pieces: Iterable[Tuple[int, bytes]], executable: bool) -> None:
        """Write a new file with holes where no piece (offset, bytes) belongs; all of `pieces` are within `size`."""
        with self._new_file(path, size, executable) as descriptor:
            for offset, piece in pieces:
                os.lseek(descriptor, offset, os.SEEK_SET)
                files.write_all(descriptor, piece)
                self._budget.check_clock()
            os.ftruncate(descriptor, size)

    @contextlib.contextmanager
    def _new_file(self, path: Path, size: int, executable: bool) -> Iterator[int]:
        self._add_name(path, _FILE)
        if size > self._limits.member_bytes:
            raise refusal(path, f"is larger than {self._limits.member_bytes} bytes")
        self._budget.take_bytes(size)
        descriptor = os.open(path[-1], _CREATE_FILE, 0o600, dir_fd=self._descriptor(path[:-1]))
        try:
            yield descriptor
            os.fchmod(descriptor, 0o755 if executable else 0o644)
        finally:
            os.close(descriptor)

    def add_hard_link(self, path: Path, target: Path) -> None:
        """A second name for a regular file that came earlier in this archive."""
        if self._kinds.get(target) != _FILE:
            raise refusal(path, f"is a hard link to {'/'.join(target)!r}, which is no earlier file of the archive")
        self._add_name(path, _FILE)
        self._budget.take_bytes(0)
        os.link(
            target[-1],
            path[-1],
            follow_symlinks=False,
            src_dir_fd=self._descriptor(target[:-1]),
            dst_dir_fd=self._descriptor(path[:-1]),
        )

    def add_symlink(self, path: Path, target: str) -> None:
        """Note a symlink; `finish` checks and writes it."""
        if not target or target.startswith("/"):
            raise refusal(path, f"is a symlink to {target!r}", "Use relative links that stay inside the artifact.")
        self._add_name(path, _LINK)
        self._links[path] = target

    def finish(self) -> None:
        """Check and write the symlinks, and lift everything out of the archive's only top folder."""
        if _FILE not in self._kinds.values():
            raise archive_refusal("holds no file", "Pack the files of the project into it.")
        top = self._only_folder()
        for path in self._links:
            self._check_link(path, top)
        for path, target in self._links.items():
            self._trim_descriptors()
            os.symlink(target, path[-1], dir_fd=self._descriptor(path[:-1]))
        if top:
            self._lift(top)

    def _add_name(self, path: Path, kind: str) -> None:
        if not path:
            raise refusal("./", f"is the archive's top and yet a {kind}")
        if path in self._kinds:
            raise refusal(path, f"is there twice (first as a {self._kinds[path]})", "Pack each name once.")
        if self._kinds.get(path[:-1]) != _DIRECTORY:
            self.add_directory(path[:-1])
        self._budget.take_entry()
        self._trim_descriptors()
        self._kinds[path] = kind

    def _make_directory(self, path: Path) -> None:
        kind = self._kinds.get(path)
        if kind == _DIRECTORY:
            return
        if kind:
            raise refusal(path, f"is a {kind} and also a folder with members", "Pack each name once.")
        self._budget.take_entry()
        self._trim_descriptors()
        os.mkdir(path[-1], 0o700, dir_fd=self._descriptor(path[:-1]))
        os.fchmod(self._descriptor(path), 0o755)
        self._kinds[path] = _DIRECTORY

    def _descriptor(self, path: Path) -> int:
        """A directory's descriptor; stays open until `_trim_descriptors`."""
        if path not in self._descriptors:
            parent = self._descriptor(path[:-1])
            self._descriptors[path] = os.open(path[-1], _OPEN_DIRECTORY, dir_fd=parent)
        return self._descriptors[path]

    def _trim_descriptors(self) -> None:
        if len(self._descriptors) > _OPEN_DESCRIPTORS:
            for path in [path for path in self._descriptors if path]:
                os.close(self._descriptors.pop(path))

    def _only_folder(self) -> Path:
        top = [path for path in self._kinds if len(path) == 1]
        return top[0] if len(top) == 1 and self._kinds[top[0]] == _DIRECTORY else ()

    def _check_link(self, path: Path, top: Path) -> None:
        """Refuse a symlink that leads above `top`, through however many other symlinks of the archive.

        `..` after a symlink goes to the parent of where that leads (path_resolution(7)), so names
        can't be folded lexically: with `a -> .` and `b -> a/..`, `b` is outside.
        """
        at = list(path[:-1])
        ahead = self._links[path].split("/")[::-1]
        hops = 0
        while ahead:
            part = ahead.pop()
            self._link_steps += 1
            if part == ".." and len(at) <= len(top):
                raise refusal(
                    path,
                    f"is a symlink to {self._links[path]!r}, outside the release",
                    "Use relative links that stay inside the artifact (and inside its only top folder).",
                )
            if part == "..":
                at.pop()
            elif part not in ("", "."):
                at.append(part)
            if self._kinds.get(tuple(at)) == _LINK:
                hops += 1
                ahead += self._links[tuple(at)].split("/")[::-1]
                at.pop()
            if hops > _MAX_HOPS or self._link_steps > self._limits.entries * self._limits.depth:
                raise refusal(path, "is a symlink that goes round in circles")

    def _lift(self, top: Path) -> None:
        """Move the members of `top` up, and remove it.

        It is renamed first, to what none of its members is called: one may have its own name. A
        crash leaves a half-lifted tree in staging, which nobody ever runs.
        """
        root = self._descriptors[()]
        folder = self._descriptor(top)
        members: List[str] = os.listdir(folder)
        aside = next(name for name in (f".top-{n}" for n in range(len(members) + 1)) if name not in members)
        os.rename(top[0], aside, src_dir_fd=root, dst_dir_fd=root)
        for member in members:
            os.rename(member, member, src_dir_fd=folder, dst_dir_fd=root)
        os.rmdir(aside, dir_fd=root)
