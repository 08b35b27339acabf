"""Sizes and habits that keep every file readable in one go."""

from __future__ import annotations

import ast
import os
import re
import statistics
from typing import Iterator

import build
from tests.architecture import sources

FUNCTION_LINES, MEDIAN_LINES, FILE_LINES = 60, 10, 300

TOP_LEVEL = {"agent", "fixtures", "tests", "dist", "build.py", "pyproject.toml", "README.md", ".ci", ".gitignore"}

#: Waiting for the clock is no test; these wait for something, and say for what.
MAY_SLEEP = ("tests/support/", "tests/bench/")

#: Nothing in a file may lead to one developer's machine. Tests make up their users: the one with a home is `ant`.
MACHINE_PATHS = re.compile(r"(?<![\w.~/-])/(?:work|root|Users/\w+|tmp/venv|home/(?!ant\b)\w+)(?![\w-])")
#: Written apart, so that this file does not hold what it looks for.
REGISTRIES = ("pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".org", "debian" + ".org")


def lines_of(node: sources.Function) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def test_functions_are_short() -> None:
    lengths = {name: lines_of(node) for name, node in sources.functions("agent", "tests")}
    assert {name: length for name, length in lengths.items() if length > FUNCTION_LINES} == {}


def test_most_functions_are_very_short() -> None:
    assert statistics.median(lines_of(node) for _, node in sources.functions("agent")) <= MEDIAN_LINES


def test_files_are_short() -> None:
    lengths = {path: sources.read(path).count("\n") for path in sources.files("agent", suffix=".py")}
    assert {path: length for path, length in lengths.items() if length > FILE_LINES} == {}


def test_top_level_is_what_the_readme_says() -> None:
    assert set(os.listdir(build.ROOT)) - sources.LOCAL == TOP_LEVEL


def test_no_file_leads_to_one_machine_or_registry() -> None:
    found = []
    for path in sources.files():
        for number, line in enumerate(sources.read(path).splitlines(), 1):
            if MACHINE_PATHS.search(line) or any(registry in line for registry in REGISTRIES):
                found.append(f"{path}:{number}: {line.strip()}")
    assert found == []


def test_no_test_sleeps() -> None:
    paths = [path for path in sources.files("tests", suffix=".py") if not path.startswith(MAY_SLEEP)]
    assert [place for path in paths for place in sleeps(path)] == []


def sleeps(path: str) -> Iterator[str]:
    for node in ast.walk(sources.parse(path)):
        called = node.func if isinstance(node, ast.Call) else None
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
        if name == "sleep":
            yield f"{path}:{getattr(node, 'lineno', 0)}"


def test_no_error_is_swallowed_whole() -> None:
    found = []
    for path in [*sources.files("agent", "tests", suffix=".py"), "build.py"]:
        for node in ast.walk(sources.parse(path)):
            if isinstance(node, ast.ExceptHandler) and catches_all(node) and does_nothing(node):
                found.append(f"{path}:{node.lineno}")
    assert found == []


def catches_all(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or getattr(handler.type, "id", "") in ("Exception", "BaseException")


def does_nothing(handler: ast.ExceptHandler) -> bool:
    return all(isinstance(node, (ast.Pass, ast.Continue)) or is_literal(node) for node in handler.body)


def is_literal(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def test_every_fixture_is_described_and_used() -> None:
    readme = sources.read("fixtures/README.md")
    tests = "\n".join(sources.read(path) for path in sources.files("tests", suffix=".py"))
    for project in sorted(os.listdir(os.path.join(build.ROOT, "fixtures", "projects"))):
        if os.path.isdir(os.path.join(build.ROOT, "fixtures", "projects", project)):
            assert re.search(rf"\b{project}\b", readme), f"fixtures/README.md has no line on {project}"
            assert re.search(rf"""["'/]{project}["'/]""", tests), f"no test uses the fixture {project}"


def test_ci_and_readme_run_the_same_tests() -> None:
    command = "python3 build.py test"
    assert command in sources.read("README.md")
    assert command in sources.read(".ci/run")
