"""The virtual tar: readable by everybody, exact in its length, and of nothing but the project's own files."""

from __future__ import annotations

import io
import json
import os
import random
import tarfile
from pathlib import Path
from typing import Callable, Dict, List

import pytest

from agent.store import logs
from agent.store.layout import ProjectLayout
from agent.store.logs import open_project_logs
from agent.store.logtar import LogTar, Member, header


@pytest.fixture
def layout(tmp_path: Path) -> ProjectLayout:
    """A project `web` with a release 1.0 that is current."""
    root = tmp_path / "web"
    (root / "logs").mkdir(parents=True)
    (root / "releases" / "1.0").mkdir(parents=True)
    (root / "current").symlink_to("releases/1.0")
    return ProjectLayout(str(root), "web")


def write(path: str, content: bytes = b"x") -> str:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Path(path).write_bytes(content)
    return path


def read(tar: LogTar) -> Dict[str, bytes]:
    """What Python's own tarfile finds in it; the length is checked, and the tar is closed."""
    data = tar.read()
    assert len(data) == tar.size_bytes and tar.size_bytes % 512 == 0
    tar.close()
    found: Dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            assert member.isreg() and member.mode == 0o644 and member.name not in found
            stream = archive.extractfile(member)
            assert stream is not None
            found[member.name] = stream.read()
    found.pop("web/README.txt", None)
    return found


def open_count() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 5000])
def test_sizes_around_the_block(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    fd = os.open(write(str(tmp_path / "file"), content), os.O_RDONLY)
    assert read(LogTar([Member("a/file", fd, size), Member("a/bytes", content, size)])) == {"a/file": content, "a/bytes": content}


@pytest.mark.parametrize("length", [1, 99, 100, 101, 155, 256, 511, 512, 5000])
def test_names_of_any_length(length: int) -> None:
    assert read(LogTar([Member("n" * length, b"x", 1), Member("after", b"y", 1)])) == {"n" * length: b"x", "after": b"y"}


def test_a_name_that_is_not_ascii() -> None:
    assert read(LogTar([Member("web/ä\udcff/" + "ö" * 90, b"x", 1)])) == {"web/ä\udcff/" + "ö" * 90: b"x"}


def test_a_size_over_8_gib_is_written_in_base_256() -> None:
    for size in (8**11 - 1, 8**11, 1 << 50):
        assert tarfile.TarInfo.frombuf(header("big", size, 5), "utf-8", "strict").size == size


def test_an_empty_tar_is_valid() -> None:
    assert read(LogTar([])) == {}


def test_reads_of_any_size_and_seeks_see_the_same_bytes(tmp_path: Path) -> None:
    members: List[Member] = [Member("a", os.urandom(700), 700), Member("b" * 150, b"", 0)]
    fd = os.open(write(str(tmp_path / "file"), os.urandom(3000)), os.O_RDONLY)
    tar = LogTar([*members, Member("c", fd, 3000)])
    whole = tar.read()
    dice = random.Random(0)
    for _ in range(300):
        position, size = dice.randrange(tar.size_bytes + 10), dice.randrange(2000)
        assert tar.seek(position) == tar.tell() == position
        assert tar.read(size) == whole[position : position + size]
    assert tar.seek(-5, os.SEEK_END) == tar.size_bytes - 5
    assert tar.read() == whole[-5:] and tar.read(1) == b"" and tar.seekable()
    tar.close()


def test_what_a_file_loses_is_zeros_and_what_it_gains_is_left_out(tmp_path: Path) -> None:
    shrunk, grown = write(str(tmp_path / "shrunk"), b"a" * 2000), write(str(tmp_path / "grown"), b"b" * 2000)
    tar = LogTar([Member("s", os.open(shrunk, os.O_RDONLY), 2000), Member("g", os.open(grown, os.O_RDONLY), 2000)])
    os.truncate(shrunk, 700)
    with open(grown, "ab") as file:
        file.write(b"c" * 2000)
    assert read(tar) == {"s": b"a" * 700 + bytes(1300), "g": b"b" * 2000}


def test_close_closes_every_descriptor_once(tmp_path: Path) -> None:
    before = open_count()
    tar = LogTar([Member("a", os.open(write(str(tmp_path / "file")), os.O_RDONLY), 1)])
    assert open_count() == before + 1
    tar.close()
    tar.close()
    assert open_count() == before


def test_the_members_and_their_order(layout: ProjectLayout) -> None:
    for number in (2, 7, 8, 9, 10):  # 2 is what a rotation has not removed yet: a row has no gap
        write(f"{layout.logs}/output-{number:08d}.log", str(number).encode())
    names = "events.jsonl events.1.jsonl times.jsonl crashes/run-12.json crashes/x output-x.log output-1.log.bak other"
    for name in names.split():
        write(f"{layout.logs}/{name}", name.encode())
    for name in ("record.json", "history.jsonl", "want.json"):
        write(f"{layout.root}/{name}", b"{}")
    write(layout.release_json("1.0"), b'{"manifest": {"description": "d", "env": {"A": "b"}}}')
    before = open_count()
    found = read(open_project_logs(layout))
    assert open_count() == before
    assert list(found) == [
        *(f"web/logs/output-{number:08d}.log" for number in (7, 8, 9, 10)), "web/logs/times.jsonl",
        "web/logs/events.1.jsonl", "web/logs/events.jsonl", "web/crashes/run-12.json",
        "web/history.jsonl", "web/record.json", "web/manifest.json",
    ]  # fmt: skip
    assert json.loads(found["web/manifest.json"]) == {"description": "d", "env": {"A": None}}


@pytest.mark.parametrize(
    ("database", "shown"),
    [
        ("sqlite:data/app.db", "sqlite:data/app.db"),
        ("postgresql://db.example:5432/app", "postgresql://db.example:5432/app"),
        ("postgresql://app:p:w%40x@[::1]:5432/app", "postgresql://app@[::1]:5432/app"),
        ("postgresql://:hidden@host/app?sslmode=require", "postgresql://@host/app?sslmode=require"),
        ("postgresql:///app?password=p&port=1", "postgresql:///app?password=&port=1"),
        ("postgresql://app:a@b/c@host/app", "postgresql://app@host/app"),
    ],
)
def test_a_manifest_is_shown_without_passwords(layout: ProjectLayout, database: str, shown: str) -> None:
    manifest = {"migrations": {"path": "m", "database": database}}
    write(layout.release_json("1.0"), json.dumps({"manifest": manifest}).encode())
    assert json.loads(read(open_project_logs(layout))["web/manifest.json"])["migrations"] == {"path": "m", "database": shown}


def test_a_project_without_logs_gives_a_valid_tar(tmp_path: Path) -> None:
    assert read(open_project_logs(ProjectLayout(str(tmp_path / "absent"), "absent"))) == {}
    (tmp_path / "bare").mkdir()
    assert list(read(open_project_logs(ProjectLayout(str(tmp_path / "bare"), "bare"), ["*"]))) == ["bare/README.txt"]


def test_nothing_but_plain_files_with_one_name_is_taken(layout: ProjectLayout, tmp_path: Path) -> None:
    secret = write(str(tmp_path / "secret"), b"secret")
    os.symlink(secret, f"{layout.logs}/output-00000001.log")
    os.mkfifo(f"{layout.logs}/output-00000002.log")
    os.mkdir(f"{layout.logs}/output-00000003.log")
    os.link(secret, f"{layout.logs}/output-00000004.log")
    os.symlink("/dev/zero", f"{layout.root}/record.json")
    write(f"{layout.logs}/output-00000005.log", b"good")
    before = open_count()
    assert read(open_project_logs(layout)) == {"web/logs/output-00000005.log": b"good"}
    assert open_count() == before


@pytest.mark.parametrize("name", ["root", "logs"])
def test_a_directory_that_is_a_link_is_not_entered(layout: ProjectLayout, tmp_path: Path, name: str) -> None:
    write(f"{layout.logs}/output-00000001.log")
    path = {"root": layout.root, "logs": layout.logs}[name]
    os.rename(path, str(tmp_path / "elsewhere"))
    os.symlink(str(tmp_path / "elsewhere"), path)
    assert read(open_project_logs(layout)) == {}


def test_included_files_are_found_by_their_patterns(layout: ProjectLayout) -> None:
    release = layout.release("1.0")
    for name in ("logs/a.log", "logs/b.log", "logs/deep/c.log", "top.log", "logs/d.txt", "run.sh"):
        write(f"{release}/{name}", name.encode())
    found = read(open_project_logs(layout, ["logs/*.log", "*.log", "./logs//a.log", "*/deep/*"]))
    assert found == {f"web/included/{name}": name.encode() for name in ("logs/a.log", "logs/b.log", "top.log", "logs/deep/c.log")}


def test_included_files_stay_within_the_release(layout: ProjectLayout, tmp_path: Path) -> None:
    release = layout.release("1.0")
    secret = write(str(tmp_path / "outside" / "secret.log"), b"secret")
    os.symlink(secret, f"{release}/link.log")
    os.symlink(str(tmp_path / "outside"), f"{release}/dir")
    os.link(secret, f"{release}/hard.log")
    os.mkfifo(f"{release}/fifo.log")
    patterns = ["*.log", "dir/*.log", "../../../outside/*", "/" + secret, "..", "", "/"]
    found = read(open_project_logs(layout, patterns))
    assert list(found) == ["web/left-out.txt"]
    assert found["web/left-out.txt"] == b"fifo.log\nhard.log\nlink.log\n"


def test_included_files_have_two_caps(layout: ProjectLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "INCLUDED_BYTES", 10)
    monkeypatch.setattr(logs, "INCLUDED_FILES", 3)
    for name, size in (("a", 5), ("b", 6), ("c", 5), ("d", 0), ("e", 0)):
        write(f"{layout.release('1.0')}/{name}", b"x" * size)
    found = read(open_project_logs(layout, ["*"]))
    assert list(found) == ["web/included/a", "web/included/c", "web/included/d", "web/left-out.txt"]
    assert found["web/left-out.txt"] == b"b\ne\n"


@pytest.mark.parametrize("target", ["/etc", "releases/..", "../../elsewhere", "releases/1.0\n", "releases/absent"])
def test_a_current_that_points_elsewhere_gives_no_release(layout: ProjectLayout, target: str) -> None:
    write(f"{layout.release('1.0')}/a.log")
    os.unlink(layout.current)
    os.symlink(target, layout.current)
    assert read(open_project_logs(layout, ["*"])) == {}


def test_a_store_that_cannot_be_read_is_an_error_and_leaves_nothing_open(
    layout: ProjectLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(f"{layout.logs}/output-00000001.log")
    write(layout.release_json("1.0"), b"not json")
    before = open_count()
    with pytest.raises(ValueError, match="Expecting value"):
        open_project_logs(layout)
    assert open_count() == before


def grow(layout: ProjectLayout) -> None:
    """What a project at work does between two downloads."""
    for name in ("output-00000004.log", "events.jsonl", "times.jsonl", "../history.jsonl"):
        with open(f"{layout.logs}/{name}", "ab") as file:
            file.write(b"more\n" * 200)
    write(f"{layout.logs}/output-00000005.log", b"next")


def test_a_snapshot_can_be_taken_again_while_the_project_goes_on(layout: ProjectLayout) -> None:
    names = "output-00000003.log output-00000004.log events.jsonl times.jsonl ../history.jsonl ../record.json"
    for name in names.split():
        write(f"{layout.logs}/{name}", name.encode() * 50)
    tar = open_project_logs(layout)
    whole, etag = tar.read(), tar.etag
    tar.close()
    grow(layout)
    again = open_project_logs(layout, (), etag)
    assert again.etag == etag and again.read() == whole
    now = open_project_logs(layout)
    assert now.etag != etag and now.read() != whole
    for tar in (again, now):
        tar.close()


@pytest.mark.parametrize(
    "change",
    [
        lambda layout: os.unlink(f"{layout.logs}/output-00000003.log"),
        lambda layout: os.rename(f"{layout.logs}/events.jsonl", f"{layout.logs}/events.1.jsonl"),
        lambda layout: write(f"{layout.root}/record.json", b"other"),
        lambda layout: write(f"{layout.logs}/output-00000003.log", b"edited"),
        lambda layout: write(f"{layout.logs}/crashes/run-9.json"),
        lambda layout: os.truncate(f"{layout.logs}/output-00000004.log", 1),
    ],
)
def test_a_snapshot_that_is_gone_gives_what_is_there(layout: ProjectLayout, change: Callable[[ProjectLayout], object]) -> None:
    for name in ("output-00000003.log", "output-00000004.log", "events.jsonl", "../record.json"):
        write(f"{layout.logs}/{name}", b"some")
    tar = open_project_logs(layout)
    tar.close()
    change(layout)
    before = open_count()
    now = open_project_logs(layout, (), tar.etag)
    assert now.etag != tar.etag
    assert now.etag == open_and_close(layout)
    now.close()
    assert open_count() == before


def open_and_close(layout: ProjectLayout) -> str:
    tar = open_project_logs(layout)
    tar.close()
    return tar.etag


@pytest.mark.parametrize("etag", ["", "x", "1.2.3-00", "1.1.1.1.1.1-" + "0" * 32, "f" * 5000, "1.1.1.1.1.1-" + "0" * 32 + "\n"])
def test_a_name_of_no_snapshot_gives_what_there_is_now(layout: ProjectLayout, etag: str) -> None:
    write(f"{layout.logs}/output-00000003.log", b"some")
    tar = open_project_logs(layout, (), etag)
    assert read(tar) == {"web/logs/output-00000003.log": b"some"}
