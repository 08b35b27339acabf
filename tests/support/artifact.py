"""Artifacts of every shape from the folders under fixtures/projects/. The same input gives the same bytes."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import struct
import tarfile
import tempfile
import zipapp
import zipfile
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

PROJECTS = os.path.join(os.path.dirname(__file__), "..", "..", "fixtures", "projects")
MANIFEST = "anthill.json"
#: Every shape that holds a folder; `zipapp` and `single` need a folder of their own kind.
ARCHIVES = ("tar", "tar.gz", "tar.bz2", "tar.xz", "zip")

_TIME = (1980, 1, 1, 0, 0, 0)
_ZIPAPP_SECONDS = 946728000  # zipapp takes the local time of files, and zip knows none before 1980
#: Where each machine stands in an ELF header (elf(5), e_machine).
ELF_MACHINES = {"x86_64": 62, "aarch64": 183, "armv7l": 40, "riscv64": 243}

Member = Tuple[bytes, int]  # content, permission bits


def pack(
    name: str,
    directory: str,
    shape: str = "tar.gz",
    manifest: Optional[Mapping[str, Any]] = None,
    folder: str = "",
) -> str:
    """Write an artifact made of fixtures/projects/`name` into `directory`; its path.

    `manifest` is merged into the fixture's own (`env` member by member). Members of an archive are put below
    `folder`, if one is given.
    """
    members = read_project(name)
    if manifest is not None:
        members[MANIFEST] = (json.dumps(_merged(members, manifest), sort_keys=True).encode(), 0o644)
    return write(encode(members, shape, folder), f"{name}.{shape}", directory)


def read_project(name: str) -> Dict[str, Member]:
    """The files of fixtures/projects/`name` by their relative paths."""
    root = os.path.join(PROJECTS, name)
    members = {}
    for base, _, files in os.walk(root):
        for file in files:
            path = os.path.join(base, file)
            with open(path, "rb") as stream:
                members[os.path.relpath(path, root)] = (stream.read(), 0o755 if os.access(path, os.X_OK) else 0o644)
    if not members:
        raise FileNotFoundError(root)
    return members


def encode(members: Mapping[str, Member], shape: str, folder: str = "") -> bytes:
    """The bytes of an artifact with these members."""
    placed = {os.path.join(folder, path): member for path, member in sorted(members.items())}
    if shape == "zip":
        return _zip(placed)
    if shape == "zipapp":
        return _zipapp(members)
    if shape == "single":
        (content, _), = members.values()  # fmt: skip
        return content
    return _COMPRESSIONS[shape](_tar(placed))


def write(content: bytes, name: str, directory: str) -> str:
    """Put an artifact's bytes into a new file; the path."""
    handle, path = tempfile.mkstemp(suffix="." + name, dir=directory)
    os.close(handle)
    with open(path, "wb") as stream:
        stream.write(content)
    return path


def digest(path: str) -> str:
    """The SHA-256 of a file in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest()


def elf(machine: str) -> bytes:
    """The smallest thing that says it is a 64-bit executable for `machine`; it runs nowhere."""
    header = b"\x7fELF" + bytes((2, 1, 1, 0)) + bytes(8)
    header += struct.pack("<HHIQQQIHHHHHH", 2, ELF_MACHINES[machine], 1, 0x400078, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, 120, 120, 0x1000)


def wrong_machine() -> str:
    """A machine that this host is not."""
    return "x86_64" if os.uname().machine != "x86_64" else "aarch64"


def _merged(members: Mapping[str, Member], manifest: Mapping[str, Any]) -> Dict[str, Any]:
    document: Dict[str, Any] = json.loads(members[MANIFEST][0]) if MANIFEST in members else {}
    env = {**document.get("env", {}), **manifest.get("env", {})}
    return {**document, **manifest, **({"env": env} if env else {})}


def _tar(members: Mapping[str, Member]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, (content, mode) in members.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _gzip(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


_COMPRESSIONS: Dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": _gzip,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
}


def _zip(members: Mapping[str, Member]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path, (content, mode) in members.items():
            member = zipfile.ZipInfo(path, _TIME)
            member.create_system, member.external_attr = 3, (0o100000 | mode) << 16
            archive.writestr(member, content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def _zipapp(members: Mapping[str, Member]) -> bytes:
    """By the standard library's own zipapp, with fixed times so that the bytes repeat."""
    with tempfile.TemporaryDirectory(prefix="ant-zipapp-") as directory:
        for path, (content, _) in members.items():
            file = os.path.join(directory, path)
            with open(file, "wb") as target:
                target.write(content)
            os.utime(file, (_ZIPAPP_SECONDS, _ZIPAPP_SECONDS))
        stream = io.BytesIO()
        zipapp.create_archive(directory, stream, interpreter="/usr/bin/env python3")
    return stream.getvalue()
