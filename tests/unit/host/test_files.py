"""Files that are whole at any instant, logs of lines with a cap, and symlinks that are swapped."""

from __future__ import annotations

import contextlib
import json
import os
import resource
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from agent.host import files


def line(number: int) -> bytes:
    return b'{"schema": 1, "n": %d}\n' % number


LINE_BYTES = len(line(0))


def names(directory: Path) -> List[str]:
    return sorted(os.listdir(directory))


SMALL_BYTES = 4096


@contextlib.contextmanager
def small_disk() -> Iterator[None]:
    """No file may grow beyond SMALL_BYTES; the kernel refuses with EFBIG where a full disk says ENOSPC.

    Only for a block: the limit is the whole process's, and what pytest prints may go to a file, too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# ---------------------------------------------------------------------- write_atomically


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "record.json"
    for data in (b"old", b"", b"new" * 100_000):
        files.write_atomically(str(path), data, durable)
        assert path.read_bytes() == data
        assert names(tmp_path) == ["record.json"]


@pytest.mark.parametrize("knows_exchange", [True, False])
def test_what_is_void_after_a_boot_is_replaced_alike(tmp_path: Path, monkeypatch: Any, knows_exchange: bool) -> None:
    if not knows_exchange:  # an old libc, or one that is not GNU's
        monkeypatch.setattr(files, "_libc", object())
    path = tmp_path / "record.json"
    for data in (b"old", b"", b"new" * 100_000):
        files.write_atomically(str(path), data, durable=False, is_void_after_boot=True)
        assert path.read_bytes() == data
        assert names(tmp_path) == ["record.json"]


def test_a_reader_keeps_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        files.write_atomically(str(path), b"new")
        assert reader.read() == b"old"


@pytest.mark.parametrize("mode", [0o600, 0o755])
def test_a_file_has_the_mode_asked_for(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"old")
    path.chmod(0o666)
    before = os.umask(0o022)
    files.write_atomically(str(path), b"new", mode=mode)
    os.umask(before)
    assert path.stat().st_mode & 0o777 == mode


def test_a_refusing_disk_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "want.json"
    path.write_bytes(b"old")
    with small_disk(), pytest.raises(OSError, match="too large"):
        files.write_atomically(str(path), b"x" * (SMALL_BYTES + 1))
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["want.json"]


def test_a_name_that_cannot_be_taken_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "want.json").mkdir()
    with pytest.raises(IsADirectoryError):
        files.write_atomically(str(tmp_path / "want.json"), b"new")
    assert names(tmp_path) == ["want.json"]


def test_a_link_in_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / f"want.json.{os.getpid()}.tmp").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        files.write_atomically(str(tmp_path / "want.json"), b"new")
    assert victim.read_bytes() == b"precious"


# ---------------------------------------------------------------------- reading


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    assert files.read_bytes(str(tmp_path / "none")) is None
    assert files.read_json(str(tmp_path / "none")) is None
    (tmp_path / "file").write_bytes(b"")
    assert files.read_bytes(str(tmp_path / "file" / "none")) is None


def test_a_large_file_is_read_whole(tmp_path: Path) -> None:
    data = os.urandom(200_000)
    (tmp_path / "file").write_bytes(data)
    assert files.read_bytes(str(tmp_path / "file")) == data


def test_a_document_comes_back(tmp_path: Path) -> None:
    path = str(tmp_path / "x.json")
    document = {"text": "ä\n\ud800", "number": 0.1, "none": None, "list": [1, {}]}
    files.write_json(path, document)
    assert files.read_json(path) == document


@pytest.mark.parametrize("content", [b"", b"[]", b"7", b'{"a"', b"\xff"])
def test_what_is_no_object_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError):
        files.read_json(str(tmp_path / "x.json"))


# ---------------------------------------------------------------------- lines


def append(path: Path, *numbers: int, limit_bytes: int = 1 << 20) -> None:
    for number in numbers:
        files.append_line(str(path), {"n": number}, limit_bytes)


def numbers_in(path: Path) -> List[int]:
    return [line["n"] for line in files.read_lines(str(path))]


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    assert numbers_in(path) == []
    append(path, 1, 2, 3)
    assert numbers_in(path) == [1, 2, 3]
    assert path.read_bytes() == line(1) + line(2) + line(3)
    assert path.stat().st_mode & 0o777 == 0o600


def test_text_with_line_ends_stays_one_line(tmp_path: Path) -> None:
    path = str(tmp_path / "history.jsonl")
    document = {"text": "a\nb\r\n\u2028\x0b\x85"}
    files.append_line(path, document, 1 << 20)
    assert files.read_lines(path) == [{"schema": 1, **document}]


def test_two_files_are_the_cap(tmp_path: Path) -> None:
    path, limit = tmp_path / "history.jsonl", 3 * LINE_BYTES
    append(path, *range(10), limit_bytes=limit)
    assert names(tmp_path) == ["history.1.jsonl", "history.jsonl"]
    assert max(os.stat(tmp_path / name).st_size for name in names(tmp_path)) <= limit
    assert numbers_in(path) == [6, 7, 8, 9]


def test_the_file_is_turned_at_its_limit_and_not_before(tmp_path: Path) -> None:
    path, limit = tmp_path / "history.jsonl", 3 * LINE_BYTES
    append(path, 0, 1, 2, limit_bytes=limit)
    assert names(tmp_path) == ["history.jsonl"]
    append(path, 3, limit_bytes=limit)
    assert path.read_bytes() == line(3)
    assert numbers_in(path) == [0, 1, 2, 3]


def test_a_torn_line_is_left_out_wherever_it_was_torn(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    append(path, 1, 2)
    whole = path.read_bytes()
    for length in range(LINE_BYTES, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert numbers_in(path) == [1]


@pytest.mark.parametrize("torn", [b'{"n": ', b'{"n": 2}', b"\0\0\0\0\0\0\0\0", b"\xff"])
def test_a_torn_line_does_not_take_the_next_one_along(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "history.jsonl"
    append(path, 1)
    with path.open("ab") as stream:
        stream.write(torn)
    append(path, 3, 4)
    assert [number for number in numbers_in(path) if number != 2] == [1, 3, 4]


def test_a_refusing_disk_costs_the_line_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    append(path, 1)
    with small_disk(), pytest.raises(OSError, match="No space"):  # written in part: the kernel gives what it has
        files.append_line(str(path), {"text": "x" * SMALL_BYTES}, 1 << 20)
    assert path.stat().st_size == SMALL_BYTES
    with small_disk(), pytest.raises(OSError, match="too large"):
        append(path, 2)
    assert numbers_in(path) == [1]


# ---------------------------------------------------------------------- links, directories, space


def test_a_link_is_swapped_whatever_it_pointed_at(tmp_path: Path) -> None:
    link = tmp_path / "current"
    for target in ("releases/1", "releases/2", "releases/1"):
        files.swap_symlink(str(link), target)
        assert os.readlink(link) == target
        assert names(tmp_path) == ["current"]


def test_a_link_left_half_way_by_a_dead_process_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / f"current.{os.getpid()}.tmp").symlink_to("nowhere")
    files.swap_symlink(str(tmp_path / "current"), "releases/2")
    assert os.readlink(tmp_path / "current") == "releases/2"
    assert names(tmp_path) == ["current"]


def test_directories_have_their_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    files.make_directory(str(tmp_path / "a" / "b"), 0o755)
    os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b")] == [0o755, 0o755]


def test_an_existing_directory_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(0o711)
    (tmp_path / "a").chmod(0o711)
    files.make_directory(str(tmp_path / "a"))
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o711


def test_removing_twice_is_removing(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"")
    files.remove_if_present(str(path))
    files.remove_if_present(str(path))
    assert names(tmp_path) == []


def test_the_space_left_is_a_part_of_the_whole(tmp_path: Path) -> None:
    space = files.free_space(str(tmp_path))
    assert 0 <= space.free_bytes <= space.total_bytes
    assert space.total_bytes > 0


def test_a_document_is_one_line(tmp_path: Path) -> None:
    files.write_json(str(tmp_path / "x.json"), {"a": [1, {"b": "\n"}]})
    content = (tmp_path / "x.json").read_text()
    assert content.count("\n") == 1 and json.loads(content) == {"a": [1, {"b": "\n"}]}
