"""The disk ends wherever it can: in the middle of an upload, an archive, a record, a line of the log. Old or new, never half.

On a tmpfs of a few hundred KiB, of which a little more is taken each time; and with the errors of a broken disk or a
quota, put in by strace(1).
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Callable, Iterator, List

import pytest

import build
from agent.errors import ArtifactFault, StorageFull
from agent.host import files
from agent.shim.capture import Capture
from agent.shim.record import Record, Want, is_volatile, read_record, read_want, write_record, write_want
from agent.store import secrets, tarball
from agent.store.layout import ProjectLayout, StoreLayout
from agent.store.limits import DEFAULT
from agent.store.segments import prepare
from agent.web.spool import Uploads
from tests.support.disk import mount, unmount
from tests.support.tarblocks import END, member

PAGE = 4096
PAGES = 64
LIMITS = replace(DEFAULT, reserve_bytes=0, reserve_inodes=0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreLayout]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    root = tmp_path / "store"
    root.mkdir()
    mount("-t", "tmpfs", "-o", f"size={PAGES * PAGE},nr_inodes=200", "tmpfs", str(root))
    try:
        layout = StoreLayout(str(root))
        files.make_directory(layout.staging)
        files.make_directory(layout.project("web").logs)
        yield layout
    finally:
        unmount(str(root))
        shutil.rmtree(f"/dev/shm/ant-host-agent-{os.geteuid()}{tmp_path}", ignore_errors=True)


def leave(store: StoreLayout, pages: int) -> None:
    """Take so much of the disk that only so many pages are left."""
    path = store.root + "/filler"
    files.remove_if_present(path)
    free = os.statvfs(store.root).f_bfree - pages
    if free > 0:
        with open(path, "wb", buffering=0) as file:
            file.write(bytes(free * PAGE))
    assert os.statvfs(store.root).f_bfree <= pages


def is_taken(what: Callable[[], object]) -> bool:
    """Whether the disk took it; an error that says otherwise than full is one."""
    try:
        what()
    except StorageFull:
        return False
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True


def listing(store: StoreLayout) -> List[str]:
    return sorted(str(path) for path in Path(store.root).rglob("*") if path.name != "filler")


ARCHIVE = b"".join(member(b"d%d/file" % number, content=bytes(3000)) for number in range(20)) + END


def test_an_archive_is_unpacked_or_leaves_a_reason(store: StoreLayout, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(ARCHIVE)
    before, verdicts, target = listing(store), set(), store.staging + "/new"

    def unpack() -> None:
        os.mkdir(target)
        with open(tmp_path / "archive", "rb") as file:
            tarball.extract(file, target, LIMITS)
        assert len(list(Path(target).rglob("file"))) == 20

    for pages in range(30):
        leave(store, pages)
        verdicts.add(is_taken(unpack))
        shutil.rmtree(target, ignore_errors=True)
        assert listing(store) == before
    assert verdicts == {True, False}


def test_an_upload_is_whole_or_gone(store: StoreLayout) -> None:
    uploads = Uploads(store, 1 << 30)
    content = bytes(range(256)) * 256
    before, verdicts = listing(store), set()

    def receive() -> None:
        spool = uploads.open(len(content))
        try:
            for at in range(0, len(content), 5000):
                spool.append(content[at : at + 5000])
            assert spool.finish().digest == hashlib.sha256(content).hexdigest()
            os.unlink(spool.path)
        finally:
            spool.close()

    for pages in range(24):
        leave(store, pages)
        verdicts.add(is_taken(receive))
        assert (listing(store), len(uploads)) == (before, 0)
    assert verdicts == {True, False}


def test_a_record_and_a_want_always_count(store: StoreLayout) -> None:
    layout = store.project("web")
    write_want(layout, Want(True, 1, "1"))
    write_record(layout, Record("web", explanation="x"))
    volatile = 0
    for number in range(PAGES):
        leave(store, number % 5)
        record = Record("web", explanation="x" * 3000 * (number % 4), generation=number)
        write_want(layout, Want(number % 2 == 0, number + 2, "1"))
        write_record(layout, record)
        assert read_want(layout) == Want(number % 2 == 0, number + 2, "1")
        assert read_record(layout) == record
        volatile += is_volatile(layout)
        assert [name for name in os.listdir(layout.root) if name.endswith(".tmp")] == []
    assert 0 < volatile < PAGES
    leave(store, 10)
    write_want(layout, Want(False, 99))
    assert not is_volatile(layout) and files.read_json(layout.want) is not None


def test_a_secret_is_the_old_or_the_new_one(store: StoreLayout) -> None:
    layout = store.project("web")
    secrets.put(layout, "jwt", b"old")
    verdicts = set()
    for pages in range(6):
        leave(store, pages)
        value = b"%d" % pages * 5000
        before = Path(layout.secrets, "jwt").read_bytes()
        taken = is_taken(lambda: secrets.put(layout, "jwt", value))  # noqa: B023
        verdicts.add(taken)
        assert Path(layout.secrets, "jwt").read_bytes() == (value if taken else before)
        assert os.listdir(store.staging) == [] and secrets.names(layout) == ["jwt"]
    assert verdicts == {True, False}


def test_a_full_disk_costs_output_counts_it_and_never_blocks(store: StoreLayout) -> None:
    layout = store.project("web")
    capture = Capture(layout, prepare(layout))
    writer = os.open(layout.fifo, os.O_WRONLY)
    sent = 0
    for pages in (0, 1, 3, 0, 20):
        leave(store, pages)
        for _ in range(4):
            sent += os.write(writer, b"x" * 8191 + b"\n")
            capture.drain()
    os.close(writer)
    kept = sum(path.stat().st_size for path in Path(layout.logs).glob("output-*.log"))
    assert capture.lost_bytes > 0 and kept > 0
    assert kept + capture.lost_bytes == sent
    assert capture.has_gap()


def test_lines_stay_lines(store: StoreLayout) -> None:
    path = store.project("web").events
    written = []
    for number in range(40):
        leave(store, number % 3)
        if is_taken(lambda: files.append_line(path, {"number": number, "text": "x" * 900}, 1 << 20)):  # noqa: B023
            written.append(number)
    leave(store, 10)
    files.append_line(path, {"number": 99}, 1 << 20)
    assert [line["number"] for line in files.read_lines(path)] == [*written, 99]
    assert 0 < len(written) < 40


# ---------------------------------------------------------------------- what strace says the disk said

WORK = """
import sys
from agent.shim.record import *
from agent.store.layout import ProjectLayout
layout = ProjectLayout(sys.argv[1], "web")
{}
"""


@pytest.mark.parametrize("error", ["EIO", "EDQUOT", "ENOSPC", "EROFS"])
@pytest.mark.parametrize(("call", "when"), [("fsync", 1), ("fsync", 2), ("rename", 1), ("write", 1)])
def test_a_want_that_the_disk_fails_counts_all_the_same(call: str, when: int, error: str, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    layout = ProjectLayout(str(tmp_path), "web")
    write_want(layout, Want(True, 1, "1"))
    program = WORK.format("write_want(layout, Want(False, 2))")
    script = tmp_path / "work.py"
    script.write_text(program)
    fault = f"inject={call}:error={error}:when={when}"
    words = ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", fault]
    base = f"/dev/shm/ant-host-agent-{os.geteuid()}{tmp_path}"
    try:
        done = subprocess.run(
            [*words, sys.executable, "-B", str(script), str(tmp_path)], env={**os.environ, "PYTHONPATH": build.ROOT},
            cwd=build.ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert read_want(layout) == Want(False, 2)
        assert is_volatile(layout), "what the disk failed is in memory"
        assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]
    finally:
        shutil.rmtree(base, ignore_errors=True)


def test_an_archive_s_own_fault_is_not_the_disk_s(store: StoreLayout) -> None:
    leave(store, 20)
    target = store.staging + "/new"
    os.mkdir(target)
    with pytest.raises(ArtifactFault), open(os.devnull, "rb") as file:
        tarball.extract(file, target, LIMITS)
