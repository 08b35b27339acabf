"""Which project an artifact is, when nobody says so."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from agent.cli.artifact import on_disk, parse_manifest_file, project_of
from agent.errors import ArtifactFault, MalformedRequest, UsageError


@pytest.mark.parametrize(
    ("name", "project"),
    [
        ("hello-1.2.tar.gz", "hello"), ("hello.tgz", "hello"), ("Who_Tweets-v2.0.1-rc1.zip", "who-tweets"),
        ("web2.pyz", "web2"), ("single.sh", "single"), ("server", "server"), ("app_20240101.tar.xz", "app"),
    ],
)  # fmt: skip
def test_a_files_name_gives_one(tmp_path: Path, name: str, project: str) -> None:
    (tmp_path / name).write_bytes(b"#!/bin/sh\n")
    assert project_of(str(tmp_path / name)) == project


def test_a_folders_name_gives_one_and_its_manifest_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "My App-2"
    folder.mkdir()
    assert project_of(str(folder)) == "my-app-2"
    monkeypatch.chdir(folder)
    assert project_of(".") == "my-app-2"
    (folder / "anthill.json").write_text('{"project": "web"}')
    assert project_of(str(folder)) == "web"
    assert project_of(str(folder), {"project": "given"}) == "given"
    (folder / "anthill.json").write_text('{"project": "../x"}')
    with pytest.raises(MalformedRequest, match="is not a project id"):
        project_of(str(folder))


def test_an_archives_manifest_comes_first(tmp_path: Path) -> None:
    manifest = b'{"project": "web"}'
    for name in "a.zip", "nested.zip":
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("anthill.json" if name == "a.zip" else "top/anthill.json", manifest)
    with tarfile.open(tmp_path / "a.tar.xz", "w:xz") as tar:
        member = tarfile.TarInfo("./anthill.json")
        member.size = len(manifest)
        tar.addfile(member, io.BytesIO(manifest))
    assert [project_of(str(tmp_path / name)) for name in ("a.zip", "nested.zip", "a.tar.xz")] == ["web"] * 3


def test_a_name_that_gives_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "___.sh").write_bytes(b"")
    with pytest.raises(UsageError, match="names no project") as refused:
        project_of(str(tmp_path / "___.sh"))
    assert "launch PROJECT" in str(refused.value.hint)


def test_what_gitignore_left_out_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "abcde":
        (tmp_path / name).write_text("")
    (tmp_path / ".gitignore").write_text("[a-d]\n")
    with on_disk(str(tmp_path), False) as packed, tarfile.open(packed) as tar:
        assert tar.getnames() == [".gitignore", "e"]
    assert "left out a, b, c and 1 more; --all packs everything" in capsys.readouterr().err
    assert not os.path.exists(packed)
    with on_disk(str(tmp_path), True):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("text", "said"), [("{", "is not JSON"), ("[]", "no object")])
def test_a_broken_manifest_file(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(ArtifactFault, match=said):
        parse_manifest_file(str(tmp_path / "m.json"))
    with pytest.raises(UsageError, match="can't be read"):
        parse_manifest_file(str(tmp_path / "absent"))
