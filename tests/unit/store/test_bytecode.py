"""agent/store/bytecode.py: the host's own copy of the agent starts without compiling."""

from __future__ import annotations

import os
import stat
import zipfile
import zipimport
from pathlib import Path
from typing import Dict

import pytest

from agent.errors import ArtifactFault
from agent.store.bytecode import add_bytecode, compile_member

SHEBANG = b"#!/usr/bin/env python3\n"
SOURCES = {
    "__main__.py": b"import greeting\n",
    "greeting.py": b"WORDS = 'hello'\n\ndef fail():\n    raise ValueError(WORDS)\n",
    "page.html": b"<p>hello</p>",
}


def write_zipapp(path: Path, members: Dict[str, bytes]) -> str:
    with path.open("wb") as file:
        file.write(SHEBANG)
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    return str(path)


def read_members(path: str) -> Dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_each_source_gets_its_bytecode_and_nothing_else_changes(tmp_path: Path) -> None:
    source = write_zipapp(tmp_path / "a.pyz", SOURCES)
    add_bytecode(source, str(tmp_path / "b.pyz"))
    members = read_members(str(tmp_path / "b.pyz"))
    assert list(members) == ["__main__.py", "__main__.pyc", "greeting.py", "greeting.pyc", "page.html"]
    assert {name: members[name] for name in SOURCES} == SOURCES
    assert (tmp_path / "b.pyz").read_bytes().startswith(SHEBANG + b"PK")
    assert stat.S_IMODE(os.stat(tmp_path / "b.pyz").st_mode) == 0o755


def test_python_imports_the_bytecode_not_the_source(tmp_path: Path) -> None:
    path = write_zipapp(tmp_path / "a.pyz", {"greeting.py": SOURCES["greeting.py"]})
    add_bytecode(path, path)
    importer = zipimport.zipimporter(path)
    code = importer.get_code("greeting")
    assert code.co_filename == "greeting.py"  # compiled from the source it would be <path>/greeting.py
    assert importer.get_source("greeting") == SOURCES["greeting.py"].decode()


def test_bytecode_of_another_python_is_passed_over_for_the_source(tmp_path: Path) -> None:
    foreign = b"\x00\x00\r\n" + compile_member("greeting.py", b"WORDS = 'from bytecode'\n")[4:]
    path = write_zipapp(tmp_path / "a.pyz", {"greeting.py": b"WORDS = 'from source'\n", "greeting.pyc": foreign})
    scope: Dict[str, object] = {}
    exec(zipimport.zipimporter(path).get_code("greeting"), scope)
    assert scope["WORDS"] == "from source"


def test_doing_it_again_changes_nothing(tmp_path: Path) -> None:
    source = write_zipapp(tmp_path / "a.pyz", SOURCES)
    add_bytecode(source, str(tmp_path / "b.pyz"))
    once = (tmp_path / "b.pyz").read_bytes()
    add_bytecode(source, str(tmp_path / "c.pyz"))
    add_bytecode(str(tmp_path / "b.pyz"), str(tmp_path / "b.pyz"))
    assert (tmp_path / "c.pyz").read_bytes() == (tmp_path / "b.pyz").read_bytes() == once
    assert sorted(os.listdir(tmp_path)) == ["a.pyz", "b.pyz", "c.pyz"]


def test_annotations_are_those_of_the_source_not_of_the_compiling_module() -> None:
    """Without dont_inherit the future import of bytecode.py would leak into what it compiles."""
    with_future = compile_member("a.py", b"from __future__ import annotations\nx: Absent = 1\n")
    assert compile_member("a.py", b"x: Absent = 1\n") != with_future


def test_a_damaged_zipapp_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "damaged.pyz"
    path.write_bytes(SHEBANG + b"no zip at all")
    with pytest.raises(ArtifactFault, match=r"damaged\.pyz"):
        add_bytecode(str(path), str(tmp_path / "b.pyz"))
    assert os.listdir(tmp_path) == ["damaged.pyz"]


def test_a_source_that_does_not_compile_is_refused_by_name(tmp_path: Path) -> None:
    path = write_zipapp(tmp_path / "a.pyz", {"agent/broken.py": b"def (:\n"})
    with pytest.raises(ArtifactFault, match=r"agent/broken\.py"):
        add_bytecode(path, str(tmp_path / "b.pyz"))
    assert os.listdir(tmp_path) == ["a.pyz"]
