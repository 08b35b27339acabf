"""Against the tools that people pack with: what GNU tar and Info-ZIP write is unpacked as they would unpack it.

And for archives made member by member, of ordinary and odd ones: the same tree as GNU tar's, or a refusal.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, Tuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import ArtifactFault
from agent.store import artifacts
from tests.support.tarblocks import END, GNU, USTAR, V7, member, pax

ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}


def run(*command: str, cwd: Path) -> bytes:
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL).stdout


def need(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def tree_of(root: Path) -> Dict[str, Tuple[str, object]]:
    """Each path with its kind, and its content and run bit, or link target."""
    found: Dict[str, Tuple[str, object]] = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = ("symlink", os.readlink(path))
        elif path.is_dir():
            found[name] = ("directory", None)
        else:
            found[name] = ("file", (path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR)))
    return found


def unpack(path: Path, directory: Path) -> Path:
    release = directory / "release"
    release.mkdir()
    artifacts.unpack(str(path), str(release), "project")
    return release


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ordinary project: long names, UTF-8, run bits, hard links, symlinks, an empty folder, holes."""
    root = tmp_path_factory.mktemp("tree")
    (root / "run.sh").write_text("#!/bin/sh\necho hello\n")
    (root / "run.sh").chmod(0o755)
    (root / "empty").mkdir()
    (root / "data.bin").write_bytes(bytes(range(256)) * 3000)
    (root / "grüße ☃.txt").write_text("hello")
    (root / "a 'quoted' name").write_text("")
    deep = root / "/".join(["a_folder_with_a_long_name"] * 8)
    deep.mkdir(parents=True)
    (deep / ("f" * 200)).write_text("deep")
    (root / "old").write_text("before 1970")
    os.utime(root / "old", (-1000, -1000))
    os.link(root / "run.sh", root / "start.sh")
    (root / "link").symlink_to("run.sh")
    (root / "empty.link").symlink_to("empty")
    (deep / "up").symlink_to("../" * 8 + "run.sh")
    return root


@pytest.mark.parametrize("variant", ["gnu", "oldgnu", "posix", "ustar", "v7"])
@pytest.mark.parametrize("compress", ["", "-z", "-j", "-J"])
def test_what_gnu_tar_writes(variant: str, compress: str, tree: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    flags = [compress] if compress else []
    # Neither format has room for the long name, nor for times before 1970.
    excluded = ["--exclude=a_folder*", "--exclude=./old"] if variant in ("ustar", "v7") else []
    run("tar", f"--format={variant}", *flags, *excluded, "-cf", str(archive), ".", cwd=tree)
    left_out = ("a_folder", "old") if excluded else ()
    expected = {name: what for name, what in tree_of(tree).items() if not name.startswith(left_out)}
    assert tree_of(unpack(archive, tmp_path)) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ["-b", "1"],
        ["-b", "256"],
        ["--numeric-owner", "--owner=4000000"],
        ["--format=posix", "--xattrs"],
        ["--mtime=1960-01-01"],
    ],
)
def test_what_gnu_tar_writes_with_options(arguments: List[str], tree: Path, tmp_path: Path) -> None:
    run("tar", *arguments, "-cf", str(tmp_path / "archive"), f"--directory={tree.parent}", tree.name, cwd=tree)
    assert tree_of(unpack(tmp_path / "archive", tmp_path)) == tree_of(tree)


@pytest.fixture(scope="module")
def holes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sparse files: of one piece, of so many that the map goes on in further blocks, of none, with a long name."""
    root = tmp_path_factory.mktemp("holes")
    for name, size, at in (
        ("one", 1 << 20, [1 << 19]), ("many", 9_000_001, range(0, 9_000_000, 100_000)), ("none", 1 << 20, []),
        ("s" * 200, 1 << 20, [0, (1 << 20) - 1]), ("no hole", 5, [0, 1, 2, 3, 4]),
    ):  # fmt: skip
        with open(root / name, "wb") as file:
            file.truncate(size)
            for offset in at:
                file.seek(offset)
                file.write(b"x")
    (root / "run.sh").write_text("#!/bin/sh\n")
    return root


@pytest.mark.parametrize(
    "options", ["--format=gnu", "--format=oldgnu", "--format=posix", "--format=posix --sparse-version=0.1", "--format=posix -z"]
)
def test_what_gnu_tar_writes_of_sparse_files(options: str, holes: Path, tmp_path: Path) -> None:
    run("tar", "--sparse", *options.split(), "-cf", str(tmp_path / "archive"), ".", cwd=holes)
    assert (tmp_path / "archive").stat().st_size < 2 << 20, "the holes were stored"
    release = unpack(tmp_path / "archive", tmp_path)
    assert tree_of(release) == tree_of(holes)
    assert (release / "one").stat().st_blocks * 512 < 1 << 20


def test_a_sparse_file_of_the_oldest_pax_kind_is_refused_by_its_reason(holes: Path, tmp_path: Path) -> None:
    run("tar", "--sparse", "--format=posix", "--sparse-version=0.0", "-cf", str(tmp_path / "archive"), ".", cwd=holes)
    with pytest.raises(ArtifactFault, match=r"version 0\.0"):
        unpack(tmp_path / "archive", tmp_path)


@pytest.mark.parametrize(
    "command",
    [
        "zip -qr {archive} .",
        "zip -qrX9 {archive} .",
        "zip -qr0 {archive} .",
        "zip -qr - . | cat > {archive}",
        "zip -qrfz {archive} .",
        "find . | zip -q {archive} -@",
    ],
)
def test_what_info_zip_writes(command: str, tree: Path, tmp_path: Path) -> None:
    need("zip")
    archive = tmp_path / "archive.zip"
    run("sh", "-c", command.format(archive=archive), cwd=tree)
    expected = {name: (kind, what) for name, (kind, what) in tree_of(tree).items() if kind != "symlink"}
    found = tree_of(unpack(archive, tmp_path))
    assert {name: found[name] for name in expected} == expected
    assert found["link"] == found["run.sh"]


def test_what_info_zip_writes_from_a_pipe(tree: Path, tmp_path: Path) -> None:
    need("zip")
    run("sh", "-c", f"cat data.bin | zip -q {tmp_path}/archive.zip -", cwd=tree)
    assert (unpack(tmp_path / "archive.zip", tmp_path) / "-").read_bytes() == (tree / "data.bin").read_bytes()


def test_what_info_zip_writes_of_symlinks(tree: Path, tmp_path: Path) -> None:
    need("zip")
    need("unzip")
    run("zip", "-qry", str(tmp_path / "archive.zip"), ".", cwd=tree)
    (tmp_path / "theirs").mkdir()
    run("unzip", "-q", "../archive.zip", cwd=tmp_path / "theirs")
    found = tree_of(unpack(tmp_path / "archive.zip", tmp_path))
    assert found == tree_of(tmp_path / "theirs") == tree_of(tree)


@pytest.mark.parametrize("shape", ["tar", "tar.gz", "zip"])
def test_what_git_archive_writes(shape: str, tmp_path: Path) -> None:
    need("git")
    work = tmp_path / "work"
    work.mkdir()
    (work / "run.sh").write_text("#!/bin/sh\n")
    (work / "run.sh").chmod(0o755)
    (work / "a").write_text("hello" * 100)
    run("git", "init", "-q", ".", cwd=work)
    run("git", "add", ".", cwd=work)
    run("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a", cwd=work)
    run("git", "archive", f"--format={shape}", "--prefix=work/", "-o", "../archive", "HEAD", cwd=work)
    shutil.rmtree(work / ".git")
    assert tree_of(unpack(tmp_path / "archive", tmp_path)) == tree_of(work)


def test_what_python_zipapp_writes(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__main__.py").write_text("print('hello')\n")
    run(sys.executable, "-m", "zipapp", "-p", "/usr/bin/env python3", "-o", "app.pyz", "app", cwd=tmp_path)
    assert os.listdir(unpack(tmp_path / "app.pyz", tmp_path)) == ["project.pyz"]


def sparse(name: bytes, numbers: List[int], size: int, content: bytes) -> bytes:
    """A sparse file (pax, version 1.0) with this map, sound or not."""
    text = b"".join(b"%d\n" % number for number in [len(numbers) // 2, *numbers])
    keys = {b"major": b"1", b"minor": b"0", b"name": name, b"realsize": b"%d" % size}
    stored = text + bytes(-len(text) % 512) + content
    return pax(*((b"GNU.sparse." + key, value) for key, value in keys.items())) + member(b"GNUSparseFile.1/x", b"0", stored)


# Archives made member by member. Names collide now and then; about a third of these archives is taken. The member that
# is always there is one to link to, and keeps a second name at the top, so that no folder is lifted out of.
NAMES = st.sampled_from(b"a b c ./h i j d/a d//b d d/ d/e/f g/k/m/n o/p q r s t u l l/a ../a .".split())
TARGETS = st.sampled_from(b"a keep ./keep d d/../keep keep/.. keep x . .. l ../a".split())
MAGIC = st.sampled_from([USTAR, GNU, V7])
KINDS = st.sampled_from([b"1", b"2", b"5", b"\0"])
PLAIN = st.builds(lambda name, content, magic: member(name, b"0", content, magic=magic), NAMES, st.binary(max_size=3), MAGIC)
OTHER = st.builds(lambda name, kind, link, magic: member(name, kind, b"", link, magic=magic), NAMES, KINDS, TARGETS, MAGIC)
LONG = st.builds(lambda name, of: member(b"././@LongLink", b"L", name + b"\0", magic=GNU) + of, NAMES, PLAIN | OTHER)
NUMBERS = st.lists(st.integers(0, 9), max_size=4)
SPARSE = st.builds(sparse, NAMES, NUMBERS, st.integers(0, 20), st.binary(max_size=9))
PAX = st.builds(lambda name, link, of: pax((b"path", name), (b"linkpath", link)) + of, NAMES, TARGETS, PLAIN | OTHER)
ARCHIVES = st.lists(PLAIN | OTHER | LONG | PAX | SPARSE, max_size=6).map(lambda parts: member(b"keep") + b"".join(parts) + END)


@settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=ARCHIVES)
def test_an_archive_is_refused_or_unpacked_as_gnu_tar_does(data: bytes, tmp_path: Path) -> None:
    scratch = Path(tempfile.mkdtemp(dir=tmp_path))
    (scratch / "archive").write_bytes(data)
    try:
        release = unpack(scratch / "archive", scratch)
    except ArtifactFault:
        assert sorted(os.listdir(scratch)) == ["archive", "release"]
        return
    (scratch / "theirs").mkdir()
    run("tar", "-xf", "../archive", "--no-same-owner", cwd=scratch / "theirs")
    assert tree_of(release) == tree_of(scratch / "theirs")
