"""Every archive of fixtures/archives/ by the process that unpacks: refused for its reason, in little memory, nothing outside."""

from __future__ import annotations

import os
import resource
from dataclasses import replace
from pathlib import Path
from typing import Dict

import pytest

from agent.errors import ArtifactFault
from agent.store import artifacts
from agent.store.limits import DEFAULT
from agent.store.unpacker import Unpacker
from tests.support import archives

#: By how much refusing one may make its worker grow.
GROWTH_KIB = 64 << 10
SECONDS = 30.0


def measured(path: str, directory: str) -> artifacts.Kind:
    """`artifacts.extract`, and the worker's growth in a file that is left to look at."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        return artifacts.extract(path, directory)
    finally:
        with open(f"{directory}/grown", "w", encoding="utf-8") as file:
            file.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))


def outside(root: Path) -> Dict[str, object]:
    plain = [path for path in root.iterdir() if path.is_file()]
    return {str(path): (path.lstat().st_nlink, path.lstat().st_mode, path.read_bytes()) for path in plain}


def test_each_is_refused_for_its_reason_and_nothing_else_happens(tmp_path: Path) -> None:
    every = archives.every()
    assert len(every) > 200
    for name in ("a", "out", "passwd", "token"):
        (tmp_path / name).write_text(f"canary {name}")
    before = outside(tmp_path)
    (tmp_path / "staging").mkdir()
    unpacker = Unpacker.start(replace(DEFAULT, seconds=SECONDS), measured)
    wrong: Dict[str, str] = {}
    try:
        for number, archive in enumerate(every):
            path, directory = tmp_path / "staging" / f"{number}.upload", tmp_path / "staging" / str(number)
            path.write_bytes(archive.data())
            directory.mkdir()
            with pytest.raises(ArtifactFault) as refused:
                artifacts.unpack(str(path), str(directory), "project", unpacker.extract)
            grown = int((directory / "grown").read_text())
            if archive.refused not in refused.value.detail or not refused.value.hint or grown > GROWTH_KIB:
                wrong[str(archive)] = f"{refused.value.detail} ({grown} KiB)"
            path.unlink()
    finally:
        unpacker.close()
    assert wrong == {}
    assert outside(tmp_path) == before
    assert sorted(os.listdir(tmp_path)) == ["a", "out", "passwd", "staging", "token"]
