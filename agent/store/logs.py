"""Which files a project's log tar holds, as one snapshot that can be taken again.

Every member is opened through directory descriptors without following a link (openat(2), O_NOFOLLOW) and must be a
regular file with one name: a project must not get the agent to read another file for it.

An agent remembers no download, so the name of a snapshot says all that it takes to make the same tar again: how long the
files were that only grow, and a digest that tells whether everything else is as it was.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Union

from agent.errors import MalformedRequest
from agent.host.files import read_json
from agent.model import parse_version
from agent.store.layout import ProjectLayout
from agent.store.logtar import LogTar, Member
from agent.store.output import open_directory, open_plain, open_segments
from agent.store.segments import segment_name, streams_name

INCLUDED_BYTES = 64 * 1024 * 1024
INCLUDED_FILES = 200

#: Files that only grow, besides the last segment; each becomes the one before it when it is full.
_GROWING = ("logs/events.jsonl", "logs/times.jsonl", "history.jsonl")
_CRASH = re.compile(r"run-\d+\.json")
#: In a URL, from the first colon after the slashes to the last at sign (RFC 3986, 3.2.1); libpq's parameter.
_PASSWORD = re.compile(r"(?<=//)([^:@/]*):.*(?=@)|(?<=[?&]password=)[^&]*")
_RECORD_BYTES = 1 << 20
_ETAG = re.compile(r"([0-9a-f]+)\.([0-9a-f]+)\.([0-9a-f]+)\.([0-9a-f]+)\.([0-9a-f]+)\.([0-9a-f]+)-[0-9a-f]{32}")

_README = """\
Everything that this host knows of project {project}.

{project}/logs/output-*.log   what it printed, oldest first; joined they are its output, byte for byte
{project}/logs/output-*.streams  of which stream (0 output, 1 errors) the bytes from an offset on are, if told apart
{project}/logs/times.jsonl    when: [time, segment, offset] of the next byte then, one line a second of output
{project}/logs/events.jsonl   its shim's events: starts (with run and position), ends with their cause, gaps with bytes lost
{project}/crashes/run-*.json  for each of the last abnormal ends: cause, last lines, peak of memory, names in its environment
{project}/record.json         what its shim knew last: state, why, what happens next
{project}/history.jsonl       launches, kills, rollbacks and ends of runs, and who asked for them
{project}/manifest.json       what the running release asked for, without values in its env and passwords
{project}/included/           files of the release that logs.include names; left-out.txt lists what was too much
"""


def open_project_logs(layout: ProjectLayout, include: Sequence[str] = (), etag: str = "") -> LogTar:
    """Everything there is to understand the project, as one tar; what is there now, or the snapshot `etag` if it can be had.

    Raises OSError where the store can't be read; a project without logs gives a valid tar. Of
    `include` at most INCLUDED_FILES files and INCLUDED_BYTES bytes are taken; a member
    `<project>/left-out.txt` names the rest.
    """
    again = _ETAG.fullmatch(etag)
    if again is not None:
        at, last, *sizes = (int(number, 16) for number in again.groups())
        tar = _open(layout, include, _Snapshot(at, last, dict(zip(("logs/" + segment_name(last), *_GROWING), sizes))))
        if tar.etag == etag:
            return tar
        tar.close()
    return _open(layout, include, _Snapshot())


@dataclass(frozen=True)
class _Snapshot:
    """What tells one from a later one: when (seconds, epoch), its last segment, and how long the files were that grow."""

    at: Optional[int] = None
    last: Optional[int] = None
    sizes: Dict[str, int] = field(default_factory=dict)


def _open(layout: ProjectLayout, include: Sequence[str], snapshot: _Snapshot) -> LogTar:
    collection = _Collection(layout.project, snapshot)
    try:
        root = collection.open_directory(None, layout.root)
        if root is not None:
            collection.add_bytes("README.txt", _README.format(project=layout.project).encode())
            _collect_logs(collection, root)
            for name in ("history.1.jsonl", "history.jsonl"):
                collection.add(root, name, name)
            _collect_record(collection, root)
            _collect_release(collection, root, layout, include)
        return collection.to_tar()
    except BaseException:
        collection.close_members()
        raise
    finally:
        collection.close_directories()


class _Found(NamedTuple):
    """One member being collected. `identity` tells whether it is the same again; without `modified` it is one that grows."""

    name: str
    content: Union[bytes, int]
    size: int
    modified: Optional[int]
    identity: str


class _Collection:
    """The members being collected, and the directories that are open meanwhile."""

    def __init__(self, project: str, snapshot: _Snapshot) -> None:
        self._found: List[_Found] = []
        self._project = project
        self._snapshot = snapshot
        self._directories: List[int] = []
        self._last = 0
        self._sizes: Dict[str, int] = {}
        self._newest = 0

    def open_directory(self, parent: Optional[int], name: str) -> Optional[int]:
        """A descriptor of the directory, None when it is absent, a link or no directory."""
        fd = open_directory(parent, name)
        if fd is not None:
            self._directories.append(fd)
        return fd

    def add(self, directory: int, name: str, member: str, limit_bytes: Optional[int] = None) -> Optional[int]:
        """Add the file as `<project>/<member>`; its size, or None when it is no plain file or over the limit."""
        fd = open_plain(directory, name)
        if fd is None:
            return None
        if limit_bytes is not None and os.fstat(fd).st_size > limit_bytes:
            os.close(fd)
            return None
        return self._add(fd, member, grows=member in _GROWING)

    def add_segments(self, logs: int) -> None:
        """The output. Every segment but the last is as it will stay."""
        segments = open_segments(logs, self._snapshot.last)
        self._last = segments[-1].number if segments else 0
        for segment in segments:
            size = self._add(segment.fd, "logs/" + segment_name(segment.number), grows=segment.number == self._last)
            self._add_marks(logs, segment.number, size)

    def _add_marks(self, logs: int, number: int, size: int) -> None:
        """Which bytes of the segment, as far as it is in the snapshot, are of which stream."""
        fd = open_plain(logs, streams_name(number))
        if fd is None:
            return
        with open(fd, "rb") as file:
            marks = [line for line in file if int(line[1:17]) < size] if os.fstat(fd).st_size else []
        self.add_bytes("logs/" + streams_name(number), b"".join(marks))

    def _add(self, fd: int, member: str, grows: bool) -> int:
        found = os.fstat(fd)
        size, modified, identity = found.st_size, int(found.st_mtime), str(found.st_ino)
        if grows:
            self._newest = max(self._newest, modified)
            self._sizes[member] = size = min(size, self._snapshot.sizes.get(member, size))
        else:
            identity += f" {found.st_mtime_ns}"
        self._found.append(_Found(f"{self._project}/{member}", fd, size, None if grows else modified, identity))
        return size

    def add_bytes(self, member: str, content: bytes) -> None:
        self._found.append(_Found(f"{self._project}/{member}", content, len(content), None, hashlib.sha256(content).hexdigest()))

    def to_tar(self) -> LogTar:
        """The tar of what was collected, with the name of its snapshot. What grows gets the time of the snapshot."""
        at = self._newest if self._snapshot.at is None else self._snapshot.at
        names = ("logs/" + segment_name(self._last), *_GROWING)
        numbers = (at, self._last, *(self._sizes.get(name, 0) for name in names))
        whole = repr([(name, size, modified, identity) for name, _, size, modified, identity in self._found])
        digest = hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        etag = ".".join(f"{number:x}" for number in numbers) + "-" + digest
        members = [Member(name, content, size, at if modified is None else modified)
                   for name, content, size, modified, _ in self._found]  # fmt: skip
        return LogTar(members, etag)

    def close_directory(self, fd: int) -> None:
        self._directories.remove(fd)
        os.close(fd)

    def close_directories(self) -> None:
        while self._directories:
            os.close(self._directories.pop())

    def close_members(self) -> None:
        for found in self._found:
            if isinstance(found.content, int):
                os.close(found.content)


def _collect_logs(collection: _Collection, root: int) -> None:
    logs = collection.open_directory(root, "logs")
    if logs is None:
        return
    collection.add_segments(logs)
    for name in ("times.1.jsonl", "times.jsonl", "events.1.jsonl", "events.jsonl"):
        collection.add(logs, name, f"logs/{name}")
    crashes = collection.open_directory(logs, "crashes")
    for name in sorted(os.listdir(crashes)) if crashes is not None else ():
        if crashes is not None and _CRASH.fullmatch(name):
            collection.add(crashes, name, f"crashes/{name}")


def _collect_record(collection: _Collection, root: int) -> None:
    """Its bytes: it is replaced by a rename whenever something happens."""
    fd = open_plain(root, "record.json")
    if fd is not None:
        try:
            collection.add_bytes("record.json", os.read(fd, _RECORD_BYTES))
        finally:
            os.close(fd)


def _collect_release(collection: _Collection, root: int, layout: ProjectLayout, include: Sequence[str]) -> None:
    """The manifest of the current release and its included files. The link's target is only ever used as a version."""
    try:
        version = parse_version(os.path.basename(os.readlink("current", dir_fd=root)))
    except (OSError, MalformedRequest):
        return
    manifest = (read_json(layout.release_json(version)) or {}).get("manifest")
    if manifest:
        collection.add_bytes("manifest.json", json.dumps(_without_secrets(manifest), indent=1).encode() + b"\n")
    releases = collection.open_directory(root, "releases")
    release = None if releases is None else collection.open_directory(releases, version)
    if release is not None and include:
        _Included(collection).collect(release, include)


def _without_secrets(manifest: Dict[str, Any]) -> Dict[str, Any]:
    """A manifest that may be shown to whoever may read logs: no value in `env` (null, which no launch would take for one), and
    no password in a database's URL."""
    env, migrations = manifest.get("env"), manifest.get("migrations")
    if isinstance(env, dict):
        manifest = {**manifest, "env": dict.fromkeys(env)}
    if isinstance(migrations, dict) and isinstance(migrations.get("database"), str):
        manifest = {**manifest, "migrations": {**migrations, "database": _PASSWORD.sub(r"\1", migrations["database"])}}
    return manifest


class _Included:
    """The files of a release that match the manifest's `logs.include`, within the two caps."""

    def __init__(self, collection: _Collection) -> None:
        self._collection = collection
        self._left_bytes = INCLUDED_BYTES
        self._taken: Set[str] = set()
        self._left_out: List[str] = []

    def collect(self, release: int, patterns: Sequence[str]) -> None:
        for pattern in patterns:
            parts = [part for part in pattern.split("/") if part not in ("", ".")]
            if parts and ".." not in parts:
                self._match(release, "", parts)
        if self._left_out:
            lines = "".join(f"{name}\n" for name in self._left_out[:1000]).encode("utf-8", "surrogateescape")
            self._collection.add_bytes("left-out.txt", lines)

    def _match(self, directory: int, prefix: str, parts: List[str]) -> None:
        names = sorted(fnmatch.filter(os.listdir(directory), parts[0]))
        for name in names:
            if len(parts) == 1:
                self._take(directory, name, prefix + name)
                continue
            inner = self._collection.open_directory(directory, name)
            if inner is not None:
                self._match(inner, f"{prefix}{name}/", parts[1:])
                self._collection.close_directory(inner)

    def _take(self, directory: int, name: str, relative: str) -> None:
        if relative in self._taken:
            return
        if len(self._taken) >= INCLUDED_FILES:
            self._left_out.append(relative)
            return
        size = self._collection.add(directory, name, f"included/{relative}", self._left_bytes)
        if size is None:
            self._left_out.append(relative)
        else:
            self._taken.add(relative)
            self._left_bytes -= size
