"""What a run may use: its user, its limits and no way to more rights; and what is refused before anything changes."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator

import pytest

from agent.errors import ArtifactFault
from agent.host import cgroups, files, users
from agent.model import Hook, Migrations, Release, ResourceLimits
from agent.shim.record import Want
from agent.shim.rights import require
from agent.store import releases
from agent.store.layout import StoreLayout
from tests.process.conftest import Host
from tests.support import processes

WAITS = "import signal; print('up', flush=True); signal.pause()"
USER = "daemon"


def run(host: Host, project: str, script: str, **members: Any) -> int:
    """The pid of a run of a release with these members; with a `user` the script is one of sh."""
    release = host.add_release(project, script)
    if "user" in members:
        release = replace(release, command=("/bin/sh", "-c", script))
    releases.commit(host.store.project(project), replace(release, **members))
    host.up(project)
    pid = host.await_state(project, "ready").pid
    assert pid is not None
    return pid


@pytest.fixture
def open_host() -> Iterator[Host]:
    """A host whose store other users can reach: pytest's own folders are closed to them."""
    folder = tempfile.mkdtemp(prefix="ant-test-rights-")
    os.chmod(folder, 0o711)
    files.make_directory(folder + "/store")
    host = Host(Path(folder, "store"))
    yield host
    host.close()
    assert host.leftovers() == []
    shutil.rmtree(folder)


# ---------------------------------------------------------------------- more rights


@pytest.mark.parametrize(("new_privileges", "expected"), [(False, "1"), (True, "0")])
def test_no_new_privileges_unless_they_are_asked_for(new_privileges: bool, expected: str, shims: Host) -> None:
    pid = run(shims, "web", WAITS, new_privileges=new_privileges)
    assert processes.status(pid)["NoNewPrivs"] == expected


# ---------------------------------------------------------------------- its own user

#: In sh, since the interpreter of these tests may lie where no other user can go.
LOOK = r"""
store=$(dirname "$(dirname "$(dirname "$PERSIST_DIR")")")
echo through the name of its output >/dev/stdout
echo "ids $(id -ru) $(id -u) $(id -rg) $(id -g) of $(id -G)"
echo "home $HOME user $USER cwd $(pwd) secret $(cat "$SECRETS_DIR/jwt")"
cannot() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "can $name"; else echo "cannot $name"; fi; }
cannot read-release ls "$RELEASE_DIR"
cannot write-data touch "$PERSIST_DIR/note"
cannot list-store ls "$store"
cannot list-projects ls "$store/projects"
cannot read-token cat "$store/token"
cannot read-record cat "$store/projects/web/record.json"
cannot list-logs ls "$store/projects/web/logs"
cannot read-other cat "$store/projects/other/releases/1/file"
cannot write-release touch "$RELEASE_DIR/new"
echo looked
exec sleep 1000
"""


@pytest.mark.needs_root
def test_a_project_runs_as_its_user_and_sees_its_own_only(open_host: Host) -> None:
    layout, other = open_host.store.project("web"), open_host.store.project("other")
    files.write_atomically(open_host.store.token, b"the key")
    open_host.add_release("other", WAITS)
    Path(other.release("1"), "file").write_text("theirs")
    files.make_directory(layout.secrets)
    files.write_atomically(layout.secrets + "/jwt", b"hidden")
    run(open_host, "web", LOOK, user=USER)
    lines = open_host.await_output("web", b"looked").decode().splitlines()
    user = users.find(USER)
    assert user is not None
    groups = " ".join(map(str, sorted(user.groups)))
    assert lines == [
        "through the name of its output",
        f"ids {user.uid} {user.uid} {user.gid} {user.gid} of {groups}",
        f"home {user.home} user {USER} cwd {layout.release('1')} secret hidden",
        "can read-release", "can write-data",
        *(f"cannot {what}" for what in (
            "list-store", "list-projects", "read-token", "read-record", "list-logs", "read-other", "write-release",
        )),
        "looked",
    ]  # fmt: skip
    assert stat.S_IMODE(os.stat(open_host.store.root).st_mode) == 0o711
    assert stat.S_IMODE(os.stat(layout.root).st_mode) == 0o710
    assert stat.S_IMODE(os.stat(other.root).st_mode) == 0o700


@pytest.mark.needs_root
def test_without_a_user_of_its_own_no_folder_is_opened(open_host: Host) -> None:
    run(open_host, "web", WAITS)
    for folder in (open_host.store.root, open_host.store.projects, open_host.store.project("web").root):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700


@pytest.mark.needs_root
def test_data_goes_to_the_user_of_the_newest_release(open_host: Host) -> None:
    layout = open_host.store.project("web")
    inner = Path(layout.data, "folder", "file")
    inner.parent.mkdir(parents=True)
    inner.write_text("of an earlier release")
    outside = Path(open_host.store.root, "of-the-host")
    outside.write_text("ours")
    os.link(outside, layout.data + "/linked")
    os.symlink(outside, layout.data + "/symlink")
    user = users.find(USER)
    assert user is not None
    run(open_host, "web", "exec sleep 1000", user=USER)
    owners = {path: os.lstat(path).st_uid for path in (layout.data, str(inner.parent), str(inner), layout.secrets)}
    assert set(owners.values()) == {user.uid}
    assert os.stat(outside).st_uid == 0
    open_host.down("web")
    run(open_host, "web", WAITS)
    assert os.stat(inner).st_uid == 0


@pytest.mark.needs_root
def test_a_user_that_has_gone_since_is_the_reason_that_the_run_failed(open_host: Host) -> None:
    release = open_host.add_release("web", WAITS)
    releases.commit(open_host.store.project("web"), replace(release, user="nobody-of-this-name"))
    open_host.up("web")
    record = open_host.await_state("web", "failed")
    assert "there is no user 'nobody-of-this-name'" in record.explanation


@pytest.mark.needs_root
def test_hooks_and_migrations_are_the_users_too(open_host: Host) -> None:
    layout = open_host.store.project("web")
    release = open_host.add_release("web", WAITS)
    folder = Path(layout.release("1"), "sql")
    folder.mkdir()
    (folder / "1.sql").write_text("CREATE TABLE t (x);")
    release = replace(
        release, user=USER, command=("/bin/sh", "-c", "exec sleep 1000"), migrations=Migrations("sql", "sqlite:data/app.db"),
        before_launch=(Hook(("/bin/sh", "-c", 'touch "$PERSIST_DIR/by-hook"; grep NoNewPrivs /proc/self/status')),),
    )  # fmt: skip
    releases.commit(layout, release)
    open_host.handle("web").change_want(lambda _: Want(True, 0, "1", prepare=True))
    open_host.await_state("web", "ready")
    user = users.find(USER)
    assert user is not None
    assert {os.stat(f"{layout.data}/{name}").st_uid for name in ("by-hook", "app.db")} == {user.uid}
    assert b"NoNewPrivs:\t1" in open_host.output("web")


# ---------------------------------------------------------------------- limits


def test_open_files_are_limited(shims: Host) -> None:
    pid = run(shims, "web", WAITS, limits=ResourceLimits(open_files=77))
    assert limit(pid, "Max open files") == ["77", "77"]


@pytest.mark.needs_root
def test_processes_are_counted_by_user_where_there_is_no_group_for_them(open_host: Host) -> None:
    pid = run(open_host, "web", "exec sleep 1000", user=USER, limits=ResourceLimits(processes=500))
    if cgroups.offers("pids"):
        record = open_host.handle("web").record()
        assert record is not None
        assert files.read_bytes(f"{record.cgroup}/pids.max") == b"500\n"
    else:
        assert limit(pid, "Max processes") == ["500", "500"]


def limit(pid: int, name: str) -> list[str]:
    line = next(line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if line.startswith(name))
    return line[len(name) :].split()[:2]


MEMORY_HOG = "print('up', flush=True)\nhog = []\nwhile True: hog.append(bytearray(1 << 20))"


def test_a_run_that_takes_too_much_memory_ends_out_of_memory(shims: Host) -> None:
    if not cgroups.offers("memory"):
        pytest.skip("needs a writable cgroup v2 tree")
    release = shims.add_release("web", MEMORY_HOG)
    releases.commit(shims.store.project("web"), replace(release, limits=ResourceLimits(memory_bytes=64 << 20)))
    shims.up("web")
    record = shims.await_state("web", "failed")
    assert record.exits[-1]["exit_cause"]["oom"] is True


# ---------------------------------------------------------------------- refusals, before anything changes


def refused(release: Release, store: StoreLayout) -> ArtifactFault:
    with pytest.raises(ArtifactFault) as caught:
        require(release, store.project(release.project))
    assert caught.value.hint
    return caught.value


RELEASE = Release("web", "1", "0" * 64, 0, ("/bin/true",))


def test_missing_secrets_are_named(tmp_path: Path) -> None:
    store = StoreLayout(str(tmp_path))
    files.make_directory(store.project("web").secrets)
    files.write_atomically(store.project("web").secrets + "/here", b"")
    error = refused(replace(RELEASE, secrets=("here", "jwt", "db")), store)
    assert (error.members["step"], error.members["missing"]) == ("secrets", ["jwt", "db"])
    assert "jwt, db are not on this host" in error.detail


def test_a_user_needs_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    error = refused(replace(RELEASE, user=USER), StoreLayout(str(tmp_path)))
    assert (error.members["step"], error.detail) == (
        "user",
        f"user: this agent runs as 12345, so it can't run anything as {USER}.",
    )


@pytest.mark.needs_root
def test_a_user_that_does_not_exist_is_named(tmp_path: Path) -> None:
    assert "'nobody-of-this-name'" in refused(replace(RELEASE, user="nobody-of-this-name"), StoreLayout(str(tmp_path))).detail


@pytest.mark.needs_root
def test_a_store_out_of_the_users_reach_is_told(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    assert "is closed to it" in refused(replace(RELEASE, user=USER), StoreLayout(str(closed / "store"))).detail


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        (ResourceLimits(memory_bytes=1 << 30), "limits.memory_bytes"),
        (ResourceLimits(cpus=0.5), "limits.cpus"),
        (ResourceLimits(processes=10), "limits.processes"),
    ],
)
def test_a_limit_that_this_host_cannot_hold_is_refused(
    limits: ResourceLimits, field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "own_group", lambda: None)
    error = refused(replace(RELEASE, limits=limits), StoreLayout(str(tmp_path)))
    assert (error.members["step"], error.members["field"]) == ("limits", field)
    assert "Delegate=yes" in str(error.hint)
