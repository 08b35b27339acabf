"""A file whose disk refuses has a stand-in in memory, which counts for exactly as long as it is the newer one."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, Callable

import pytest

from agent.host import files, standin


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "other").touch()
    monkeypatch.setattr(standin, "_MEMORY", str(tmp_path / "memory"))
    (tmp_path / "disk").mkdir()
    return str(tmp_path / "disk" / "want.json")


@pytest.fixture
def refuse(path: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the disk refuse with an errno; 0 for no longer."""
    write = files.write_json

    def refuse(number: int) -> None:
        def writing(where: str, document: Any, **how: bool) -> None:
            if number and "/disk/" in where and "/memory/" not in where:
                raise OSError(number, os.strerror(number), where)
            write(where, document, **how)

        monkeypatch.setattr(files, "write_json", writing)

    return refuse


@pytest.mark.parametrize("number", standin.REFUSALS)
def test_what_the_disk_refuses_counts_until_it_takes_it(number: int, path: str, refuse: Callable[[int], None]) -> None:
    standin.write_json(path, {"is": 1})
    assert not standin.exists(path)
    refuse(number)
    standin.write_json(path, {"is": 2})
    standin.write_json(path, {"is": 3})
    assert standin.exists(path)
    assert (standin.read_json(path), files.read_json(path)) == ({"is": 3}, {"is": 1})
    refuse(0)
    standin.write_json(path, {"is": 4})
    assert not standin.exists(path)
    assert standin.read_json(path) == files.read_json(path) == {"is": 4}
    assert os.listdir(standin._MEMORY) == ["other"], "nothing is left in memory"


def test_it_stands_in_for_what_is_there_only(path: str, refuse: Callable[[int], None]) -> None:
    refuse(errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        standin.write_json(path, {"is": 1})
    assert standin.read_json(path) is None


def test_a_newer_file_counts_whatever_is_left_in_memory(path: str, refuse: Callable[[int], None]) -> None:
    standin.write_json(path, {"is": 1})
    refuse(errno.ENOSPC)
    standin.write_json(path, {"is": 2})
    refuse(0)
    now = os.stat(path).st_mtime + 60
    files.write_json(path, {"is": 3})  # and then whoever wrote it died
    os.utime(path, (now, now))
    assert standin.read_json(path) == {"is": 3}


def test_other_errors_are_errors(path: str, refuse: Callable[[int], None]) -> None:
    standin.write_json(path, {"is": 1})
    refuse(errno.EACCES)
    with pytest.raises(PermissionError):
        standin.write_json(path, {"is": 2})


@pytest.mark.parametrize("theirs", ["open to others", "no folder", "a link"])
def test_memory_that_somebody_else_has_made_ready_is_not_used(
    theirs: str, path: str, refuse: Callable[[int], None], tmp_path: Path
) -> None:  # fmt: skip
    base = Path(standin._base())
    if theirs == "open to others":
        base.mkdir()
        base.chmod(0o770)
    elif theirs == "no folder":
        base.touch()
    else:
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        base.symlink_to(tmp_path / "elsewhere")
    standin.write_json(path, {"is": 1})
    refuse(errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        standin.write_json(path, {"is": 2})
    assert standin.read_json(path) == {"is": 1}


def test_a_clock_that_went_back_makes_no_stand_in_old(path: str, refuse: Callable[[int], None]) -> None:
    standin.write_json(path, {"is": 1})
    later = os.stat(path).st_mtime + 3600
    os.utime(path, (later, later))
    refuse(errno.ENOSPC)
    standin.write_json(path, {"is": 2})
    assert standin.read_json(path) == {"is": 2}
