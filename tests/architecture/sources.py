"""The files of this repository as these tests read them."""

from __future__ import annotations

import ast
import os
from typing import Iterator, List, Tuple, Union

import build

#: What is made on the spot or belongs to a person's tools; never committed. In a worktree `.git` is a file.
LOCAL = {".git", ".cache", ".venv", "__pycache__", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache"}

Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]


def files(*tops: str, suffix: str = "") -> List[str]:
    """Paths relative to the root of all files below these folders, or of the whole repository."""
    found = []
    for top in tops or (".",):
        for folder, folders, names in os.walk(os.path.join(build.ROOT, top)):
            folders[:] = sorted(set(folders) - LOCAL - ({"dist"} if folder.endswith("/.") else set()))
            found += [os.path.relpath(os.path.join(folder, name), build.ROOT) for name in sorted(set(names) - LOCAL)]
    return [path for path in found if path.endswith(suffix)]


def read(path: str) -> str:
    """A file's text; what is not UTF-8 in it (a fixture may be raw bytes) becomes a replacement character."""
    return build.read(os.path.join(build.ROOT, path)).decode(errors="replace")


def parse(path: str) -> ast.Module:
    return ast.parse(read(path), path)


def functions(*tops: str) -> Iterator[Tuple[str, Function]]:
    """("path:line name", node) of every function and method."""
    for path in files(*tops, suffix=".py"):
        for node in ast.walk(parse(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{path}:{node.lineno} {node.name}", node
