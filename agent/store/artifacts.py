"""What an upload is, told by its content, and how it becomes a release's directory."""

from __future__ import annotations

import enum
import errno
import os
import shutil
import stat
from typing import BinaryIO, Callable, Optional

from agent import manifest
from agent.errors import ArtifactFault, StorageFull
from agent.manifest import Manifest
from agent.store import decompress, tarball, tarheader, zipball

MANIFEST_NAME = "anthill.json"
_ACCEPTED = "Send a tar (plain, gzip, bzip2, xz, zstd), a zip, a zipapp (a zip with __main__.py) or one executable (ELF or #!)."
_ZIP_MAGICS = (b"PK\3\4", b"PK\5\6")


class Kind(enum.Enum):
    """The shapes of an artifact."""

    TAR = "tar"
    ZIP = "zip"
    ZIPAPP = "zipapp"
    EXECUTABLE = "executable"


def identify(path: str) -> Kind:
    """The shape of the file at `path`; ArtifactFault that says what it looks like if it is none of ours."""
    with open(path, "rb") as file:
        head = file.read(tarheader.BLOCK_BYTES)
        if not head:
            raise ArtifactFault("The artifact is empty.", _ACCEPTED)
        if tarheader.is_header(head):
            return _unambiguous_tar(head)
        if head.startswith(b"\x7fELF"):
            return Kind.EXECUTABLE
        if head.startswith(_ZIP_MAGICS):
            return Kind.ZIPAPP if zipball.has_main(file) else Kind.ZIP
        if head.startswith(b"#!"):
            return Kind.ZIPAPP if _is_zipapp_behind_shebang(file, head) else Kind.EXECUTABLE
        compression = decompress.compression(head)
        if compression is None:
            raise ArtifactFault(f"The artifact is none of the known kinds: {_described(head)}.", _ACCEPTED)
        file.seek(0)
        inner = decompress.Source(file).read(tarheader.BLOCK_BYTES)
    if not tarheader.is_header(inner) and inner != tarheader.ZERO_BLOCK:
        raise ArtifactFault(f"The artifact is {compression} data, but no tar is in it: {_described(inner)}.", _ACCEPTED)
    return Kind.TAR


def extract(path: str, directory: str) -> Kind:
    """Unpack the archive at `path` into `directory`, which is new and empty, without its only top folder; its kind.

    A zipapp is only read through, and of an executable nothing is done: `unpack` takes both whole. ArtifactFault or
    StorageFull for what is refused: part of it may then be in the directory, which the caller removes.
    """
    kind = identify(path)
    with open(path, "rb") as file:
        if kind is Kind.TAR:
            tarball.extract(file, directory)
        elif kind is Kind.ZIP:
            zipball.extract(file, directory)
        elif kind is Kind.ZIPAPP:
            zipball.check_zipapp(file)
    return kind


def unpack(path: str, directory: str, project: str, extract: Callable[[str, str], Kind] = extract) -> None:
    """Turn the artifact at `path` into the content of `directory`, which is new and empty.

    An archive is unpacked by `extract`; a zipapp becomes `<project>.pyz` and an executable `<project>`, both whole.
    Nothing is fsynced: the caller does one syncfs(2) for all.
    """
    try:
        kind = extract(path, directory)
        if kind in (Kind.ZIPAPP, Kind.EXECUTABLE):
            _take_whole(path, f"{directory}/{project}{'.pyz' if kind is Kind.ZIPAPP else ''}")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"The disk is full: {error.strerror}.") from error
        raise


def read_manifest(directory: str, project: str) -> Manifest:
    """The manifest of an unpacked artifact: `anthill.json` at its top, or inside if it is one zipapp.

    Without one, all defaults. ArtifactFault names what is wrong in it.
    """
    data = _read_file(f"{directory}/{MANIFEST_NAME}")
    if data is None and os.listdir(directory) == [f"{project}.pyz"]:
        data = _read_from_zipapp(f"{directory}/{project}.pyz")
    return Manifest() if data is None else manifest.parse(data)


def _unambiguous_tar(head: bytes) -> Kind:
    """A tar; but one whose first member is called like another kind's first bytes is meant to be read in two ways."""
    if head.startswith((b"#!", b"\x7fELF", *_ZIP_MAGICS)) or decompress.compression(head):
        raise ArtifactFault("The artifact is a tar that also looks like something else.", "Rename its first member.")
    return Kind.TAR


def _is_zipapp_behind_shebang(file: BinaryIO, head: bytes) -> bool:
    try:
        return zipball.has_main(file)
    except ArtifactFault:
        # A script is no zip, and need not be; what goes on as one after its first line is a damaged one.
        if head.partition(b"\n")[2].startswith(_ZIP_MAGICS):
            raise
        return False


def _described(head: bytes) -> str:
    if head == bytes(len(head)):
        return "it begins with zeros (an empty tar?)"
    if head.startswith((b"<!", b"<html", b"<?xml")):
        return f"it begins with {head[:24]!r}, like a web page (an error page from a download?)"
    if head.startswith((b"7z\xbc\xaf", b"Rar!")):
        return "it is a 7z or rar archive"
    if head.startswith(b"!<arch>"):
        return "it is a .deb package or an ar archive"
    return f"it begins with {head[:24]!r}"


def _take_whole(path: str, destination: str) -> None:
    """A second name for the file, or a copy where the file system has none; executable."""
    try:
        os.link(path, destination)
    except OSError:
        shutil.copyfile(path, destination)
    os.chmod(destination, 0o755)


def _read_file(path: str) -> Optional[bytes]:
    """A manifest's bytes, one more than allowed at most; None where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ArtifactFault(f"{MANIFEST_NAME} is no regular file.", "Make it a file with JSON in it.")
        return os.read(descriptor, manifest.MAX_BYTES + 1)
    finally:
        os.close(descriptor)


def _read_from_zipapp(path: str) -> Optional[bytes]:
    with open(path, "rb") as file:
        if file.read(2) not in (b"PK", b"#!"):
            return None
        return zipball.read_zipapp_member(file, (MANIFEST_NAME,), manifest.MAX_BYTES)
