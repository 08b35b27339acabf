"""Artifacts are told by their content, and become a release's files."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zipapp
import zipfile
from pathlib import Path
from typing import Callable, Dict, Tuple

import pytest

from agent.errors import ArtifactFault
from agent.manifest import MAX_BYTES
from agent.store import artifacts
from agent.store.artifacts import Kind

MANIFEST = b'{"version": "7"}'


def tar(files: Dict[str, bytes], mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def zip_of(files: Dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


FILES = {"anthill.json": MANIFEST, "run.sh": b"#!/bin/sh\n"}
APP = {"__main__.py": b"print()", "anthill.json": MANIFEST}

KNOWN: Dict[str, Tuple[bytes, Kind]] = {
    "tar": (tar(FILES), Kind.TAR),
    "tar.gz": (tar(FILES, "w:gz"), Kind.TAR),
    "tar.bz2": (tar(FILES, "w:bz2"), Kind.TAR),
    "tar.xz": (tar(FILES, "w:xz"), Kind.TAR),
    "zip": (zip_of(FILES), Kind.ZIP),
    "zipapp": (zip_of(APP), Kind.ZIPAPP),
    "zipapp with shebang": (b"#!/usr/bin/env python3\n" + zip_of(APP), Kind.ZIPAPP),
    "ELF": (b"\x7fELF\2\1\1" + bytes(57), Kind.EXECUTABLE),
    "ELF with a zip at its end": (b"\x7fELF\2\1\1" + bytes(57) + zip_of(APP), Kind.EXECUTABLE),
    "script": (b"#!/bin/sh\nexit\n", Kind.EXECUTABLE),
    "script with a zip at its end": (b"#!/bin/sh\nexit\n" + zip_of(FILES), Kind.EXECUTABLE),
}

UNKNOWN: Dict[str, Tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "text": (b"echo hello\n", "begins with b'echo hello"),
    "zeros": (bytes(4096), "begins with zeros"),
    "web page": (b"<!DOCTYPE html>", "like a web page"),
    "7z": (b"7z\xbc\xaf\x27\x1c", "7z or rar"),
    "deb": (b"!<arch>\ndebian-binary", ".deb"),
    "gzip of text": (gzip.compress(b"hello"), "gzip data, but no tar is in it: it begins with b'hello'"),
    "gzip of nothing": (gzip.compress(b""), "no tar is in it"),
    "cut gzip": (gzip.compress(os.urandom(9000))[:300], "cut short"),
    "cut zip": (zip_of(FILES)[:-9], "no end record"),
    "cut zipapp with shebang": (b"#!/usr/bin/env python3\n" + zip_of(APP)[:-9], "no end record"),
    "tar that reads as a script": (tar({"#!/bin/sh": b"x"}), "also looks like something else"),
    "tar that reads as a zip": (tar({"PK\3\4": b"x"}), "also looks like something else"),
}


def write(directory: Path, data: bytes) -> str:
    path = directory / "upload"
    path.write_bytes(data)
    path.chmod(0o600)
    return str(path)


def unpack(directory: Path, data: bytes) -> Path:
    release = directory / "release"
    release.mkdir()
    artifacts.unpack(write(directory, data), str(release), "web")
    return release


@pytest.mark.parametrize("case", KNOWN)
def test_an_artifact_is_told_by_its_content(case: str, tmp_path: Path) -> None:
    data, kind = KNOWN[case]
    assert artifacts.identify(write(tmp_path, data)) is kind


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_is_no_artifact_is_described(case: str, tmp_path: Path) -> None:
    data, reason = UNKNOWN[case]
    with pytest.raises(ArtifactFault) as refused:
        artifacts.identify(write(tmp_path, data))
    assert reason in refused.value.detail
    assert refused.value.hint


@pytest.mark.parametrize("case", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_an_archive_is_unpacked(case: str, tmp_path: Path) -> None:
    release = unpack(tmp_path, KNOWN[case][0])
    assert {path.name: path.read_bytes() for path in release.iterdir()} == FILES
    assert artifacts.read_manifest(str(release), "web").version == "7"


@pytest.mark.parametrize("case", ["zipapp", "zipapp with shebang"])
def test_a_zipapp_is_kept_whole(case: str, tmp_path: Path) -> None:
    data = KNOWN[case][0]
    release = unpack(tmp_path, data)
    assert os.listdir(release) == ["web.pyz"]
    assert (release / "web.pyz").read_bytes() == data
    assert artifacts.read_manifest(str(release), "web").version == "7"


@pytest.mark.parametrize("interpreter", [None, "/usr/bin/env python3"])
@pytest.mark.parametrize("compressed", [False, True])
def test_what_zipapp_writes_is_a_zipapp(interpreter: str, compressed: bool, tmp_path: Path) -> None:
    (tmp_path / "source" / "package").mkdir(parents=True)
    (tmp_path / "source" / "package" / "__init__.py").write_text("x = 1\n")
    (tmp_path / "source" / "__main__.py").write_text("import package\n")
    zipapp.create_archive(tmp_path / "source", tmp_path / "app.pyz", interpreter, compressed=compressed)
    release = unpack(tmp_path, (tmp_path / "app.pyz").read_bytes())
    assert os.listdir(release) == ["web.pyz"]
    assert artifacts.read_manifest(str(release), "web").document == {}


@pytest.mark.parametrize("case", ["ELF", "script"])
def test_an_executable_is_kept_whole_and_executable(case: str, tmp_path: Path) -> None:
    data = KNOWN[case][0]
    release = unpack(tmp_path, data)
    assert os.listdir(release) == ["web"]
    assert (release / "web").read_bytes() == data
    assert (release / "web").stat().st_mode & 0o777 == 0o755
    assert artifacts.read_manifest(str(release), "web").document == {}


def test_a_damaged_zipapp_is_refused(tmp_path: Path) -> None:
    data = zip_of({"__main__.py": b"print()"}).replace(b"print()", b"print[]")
    with pytest.raises(ArtifactFault, match="size or CRC is wrong"):
        unpack(tmp_path, data)


def test_the_manifest_is_read_from_the_artifacts_top_only(tmp_path: Path) -> None:
    release = unpack(tmp_path, tar({"run.sh": b"", "d/anthill.json": MANIFEST, "web.pyz": zip_of(APP)}))
    assert artifacts.read_manifest(str(release), "web").document == {}


def test_a_manifest_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    release = unpack(tmp_path, tar({"run.sh": b"", "anthill.json/x": b""}))
    with pytest.raises(ArtifactFault, match="no regular file"):
        artifacts.read_manifest(str(release), "web")


@pytest.mark.parametrize("pack", [tar, zip_of])
def test_a_manifest_that_is_too_large_is_refused(pack: Callable[[Dict[str, bytes]], bytes], tmp_path: Path) -> None:
    large = json.dumps({"x": "x" * MAX_BYTES}).encode()
    release = unpack(tmp_path, pack({"anthill.json": large, "__main__.py": b""}))
    with pytest.raises(ArtifactFault, match=str(MAX_BYTES)):
        artifacts.read_manifest(str(release), "web")
