"""The zipapp needs nothing but a Python: not its folder, no environment, no package of the host."""

from __future__ import annotations

import ast
import subprocess
import zipfile
from pathlib import Path
from typing import Callable, Dict

import pytest

import build
from agent import __version__
from agent.store.bytecode import add_bytecode
from tests.conftest import find_interpreter

Run = Callable[..., "subprocess.CompletedProcess[str]"]

TOO_OLD = ("2.7", "3.6", "3.7", "3.8")


def test_it_says_its_version_with_each_python(pyz: str, run: Run, interpreters: Dict[str, str]) -> None:
    for python in interpreters.values():
        done = run(python, "-I", pyz, "version")
        assert (done.returncode, done.stderr) == (0, "")
        assert __version__ in done.stdout


def test_every_module_can_be_imported_with_each_python(pyz: str, run: Run, interpreters: Dict[str, str]) -> None:
    """-S: no site-packages, so what is imported is in the zipapp or in the standard library."""
    with zipfile.ZipFile(pyz) as archive:
        names = [name[:-3].replace("/", ".") for name in archive.namelist() if name.endswith(".py")]
    modules = sorted(name.replace(".__init__", "") for name in names if not name.endswith("__main__"))
    code = f"import sys, importlib\nsys.path.insert(0, {pyz!r})\nfor name in {modules!r}: importlib.import_module(name)"
    for python in interpreters.values():
        done = run(python, "-I", "-S", "-W", "error", "-c", code)
        assert (done.returncode, done.stderr) == (0, "")


def test_what_lies_in_the_working_folder_is_not_imported(pyz: str, run: Run, python: str, tmp_path: Path) -> None:
    for name in ("agent", "bottle", "waitress", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the working folder')")
    done = run(python, "-I", pyz, "version", cwd=str(tmp_path), env={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stderr) == (0, "")


def test_bytecode_of_one_python_serves_every_other(pyz: str, run: Run, interpreters: Dict[str, str], tmp_path: Path) -> None:
    """The host's copy stays usable after the host's Python was upgraded: the sources are beside the bytecode."""
    copy = str(tmp_path / "copy.pyz")
    add_bytecode(pyz, copy)
    for python in interpreters.values():
        done = run(python, "-I", copy, "version")
        assert (done.returncode, done.stderr) == (0, "")


def test_an_old_python_can_read_the_entry() -> None:
    ast.parse(build.ENTRY, feature_version=(3, 4))
    assert build.ENTRY.isascii()


def test_an_old_python_is_refused_in_one_sentence(pyz: str, run: Run) -> None:
    found = {version: path for version in TOO_OLD for path in [find_interpreter(version)] if path}
    if not found:
        pytest.skip("no Python older than 3.9 is on this machine")
    for version, python in found.items():
        done = run(python, pyz, "serve")
        sentence = f"ant-host-agent needs Python 3.9 or newer; this is Python {version}.\n"
        assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence)


def test_another_system_is_refused_in_one_sentence(pyz: str, run: Run, python: str) -> None:
    code = f"import runpy, sys\nsys.platform = 'darwin'\nrunpy.run_path({pyz!r}, run_name='__main__')"
    done = run(python, "-I", "-c", code)
    sentence = "ant-host-agent runs on Linux only; this is darwin.\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence)
