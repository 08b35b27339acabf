"""What is in the zipapp: all of the agent, its three dependencies with their licences, and nothing else."""

from __future__ import annotations

import ast
import json
import os
import re
import stat
import zipfile
from typing import Dict, Iterator, List, Tuple

import pytest

import build
from agent import __version__

BUDGET_BYTES = 450 * 1024
LICENCES = ["licences/bottle.txt", "licences/multipart.txt", "licences/waitress.txt"]
TOP = ["__main__.py", "anthill.json", "bottle.py", "multipart.py"]


@pytest.fixture
def archive(pyz: str) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(pyz) as opened:
        yield opened


def sources_of_the_agent() -> List[str]:
    found = []
    for folder, _, files in os.walk(os.path.join(build.ROOT, "agent")):
        found += [os.path.relpath(os.path.join(folder, name), build.ROOT) for name in files if name.endswith(".py")]
    return found


def test_members_are_exactly_these(archive: zipfile.ZipFile) -> None:
    names = set(archive.namelist())
    data = {name for name in names if name.startswith("agent/") and not name.endswith(".py")}
    assert all(name.endswith((".html", ".css", ".js", ".json", ".svg")) for name in data)
    assert all(os.path.isfile(os.path.join(build.ROOT, name)) for name in data)
    waitress = [f"waitress/{name}.py" for name in build.WAITRESS]
    assert names - data == {*sources_of_the_agent(), *waitress, *LICENCES, *TOP}


def test_members_are_what_the_tree_holds(archive: zipfile.ZipFile) -> None:
    for name in archive.namelist():
        if name.startswith("agent/"):
            assert archive.read(name) == build.read(os.path.join(build.ROOT, name)), f"{name} changed since the build"


def test_members_are_sorted_unique_and_undated(archive: zipfile.ZipFile) -> None:
    names = archive.namelist()
    assert names == sorted(set(names))
    assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert {member.external_attr >> 16 for member in archive.infolist()} == {0o100644}


def test_what_was_stripped_is_the_same_program_with_the_same_lines(archive: zipfile.ZipFile) -> None:
    changed = []
    for dependency in build.DEPENDENCIES:
        with zipfile.ZipFile(build.fetch(dependency)) as wheel:
            for name in dependency.sources:
                before, after = wheel.read(name), archive.read(name)
                assert shape(after) == shape(before), name
                assert after.count(b"Copyright") == before.count(b"Copyright"), name
                if after != before:
                    assert b"\n# Changed on 20" in b"\n" + after
                    changed.append(name)
    assert {"bottle.py", "multipart.py", "waitress/channel.py", "waitress/wasyncore.py"} <= set(changed)


def shape(source: bytes) -> Tuple[str, List[int]]:
    """A program but for its docstrings, and where each part of it stands."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body[0] = ast.copy_location(ast.Pass(), node.body[0])
    return ast.dump(tree), [node.lineno for node in ast.walk(tree) if isinstance(node, (ast.stmt, ast.expr))]


def test_licences_are_the_licences(archive: zipfile.ZipFile) -> None:
    assert b"Marcel Hellkamp" in archive.read("licences/bottle.txt")
    assert b"Marcel Hellkamp" in archive.read("licences/multipart.txt")
    assert b"ZPL" in archive.read("licences/waitress.txt")


def test_it_is_executable_and_says_what_runs_it(pyz: str) -> None:
    assert stat.S_IMODE(os.stat(pyz).st_mode) == 0o755
    assert build.read(pyz).startswith(b"#!/usr/bin/env python3\nPK")


def test_it_is_small(pyz: str) -> None:
    assert os.path.getsize(pyz) <= BUDGET_BYTES


def test_manifest_names_the_content(archive: zipfile.ZipFile) -> None:
    document = json.loads(archive.read("anthill.json"))
    assert sorted(document) == ["description", "project", "version"]
    assert document["project"] == "ant-host-agent"
    assert re.fullmatch(re.escape(__version__) + r"\+[0-9a-f]{8}", document["version"])
    contents = {name: archive.read(name) for name in archive.namelist() if name != "anthill.json"}
    assert json.loads(build.manifest(contents)) == document


@pytest.mark.parametrize("changed", [{"agent/new.py": b""}, {"bottle.py": b"other"}, {"__main__.py": b""}])
def test_another_content_has_another_version(archive: zipfile.ZipFile, changed: Dict[str, bytes]) -> None:
    contents = {name: archive.read(name) for name in archive.namelist() if name != "anthill.json"}
    assert build.manifest({**contents, **changed}) != archive.read("anthill.json")


def test_a_wheel_with_another_hash_is_refused_and_dropped(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "CACHE", str(tmp_path))
    dependency = build.DEPENDENCIES[0]
    os.mkdir(os.path.dirname(build.wheel_path(dependency)))
    with open(build.wheel_path(dependency), "wb") as file:
        file.write(b"not the wheel")
    with pytest.raises(build.BuildError, match=r"bottle-.*sha256"):
        build.wheel(dependency)
    assert not os.path.exists(build.wheel_path(dependency))
