"""Migrations by the host's psql, on a real server of the test's own."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from agent.model import Migrations, Release
from agent.shim import migrations
from agent.shim.migrations import Refused, libpq
from agent.store.layout import StoreLayout
from tests.support.http import free_port
from tests.support.wait import eventually

PROGRAMS = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
ONE = "CREATE TABLE t (a TEXT); CREATE FUNCTION f() RETURNS INT AS $$ SELECT 1; $$ LANGUAGE sql;"


class Server:
    """A PostgreSQL server on a port of its own, run by a user who is not root (it refuses to be root's)."""

    def __init__(self, directory: str) -> None:
        self.port, self._directory = free_port(), directory
        account = pwd.getpwnam("postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name)
        self._user: Dict[str, Any] = {"user": account.pw_uid, "group": account.pw_gid} if os.geteuid() == 0 else {}
        os.chown(directory, account.pw_uid, account.pw_gid)
        os.chmod(directory, 0o755)
        self._run("initdb", "-D", f"{directory}/data", "-U", "ant", "-A", "trust", "-E", "UTF8", "-N")
        options = f"-p {self.port} -h 127.0.0.1 -k {directory} -F"
        self._run("pg_ctl", "-D", f"{directory}/data", "-l", f"{directory}/log", "-o", options, "-w", "-t", "60", "start")
        self.url = f"postgresql://ant@127.0.0.1:{self.port}/postgres?sslmode=disable"

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [f"{PROGRAMS[-1]}/{program}", *arguments], check=True, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, **self._user,
        )  # fmt: skip

    def query(self, sql: str) -> List[str]:
        command = ["psql", "-X", "-A", "-t", "-c", sql, self.url]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()

    def stop(self) -> None:
        self._run("pg_ctl", "-D", f"{self._directory}/data", "-m", "immediate", "-w", "stop")


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not PROGRAMS or shutil.which("psql") is None:
        pytest.skip("postgresql is not installed")
    directory = subprocess.run(["mktemp", "-d", "/tmp/ant-pg-XXXXXX"], check=True, capture_output=True, text=True).stdout.strip()
    server = Server(directory)
    yield server
    server.stop()
    eventually(lambda: not os.path.exists(f"{directory}/data/postmaster.pid"), 20, "the server is gone")
    shutil.rmtree(directory)


def apply(root: Path, url: str, version: str, **scripts: str) -> List[str]:
    """Apply these scripts (`_1` is 1.sql) as the errand does, in a process of its own; what was applied."""
    layout = StoreLayout(str(root)).project("web")
    folder = Path(layout.release(version), "migrations")
    folder.mkdir(parents=True)
    for name, script in scripts.items():
        (folder / f"{name.strip('_')}.sql").write_text(script)
    wanted = Migrations("migrations", url, 20)
    release = Release("web", version, "", 0, (), migrations=wanted)
    null = os.open("/dev/null", os.O_WRONLY)
    try:
        return migrations.in_child(lambda: migrations.apply(release, layout, wanted, null))
    finally:
        os.close(null)


def test_on_a_real_server(server: Server, tmp_path: Path) -> None:
    assert apply(tmp_path, server.url, "1", _1=ONE, _2="INSERT INTO t VALUES ('x;y')") == ["1.sql", "2.sql"]
    assert apply(tmp_path, server.url, "2", _1=ONE, _2="INSERT INTO t VALUES ('x;y')") == []
    assert server.query("SELECT a FROM t") == ["x;y"]
    assert server.query("SELECT name, version FROM ant_host_agent_migrations ORDER BY 1") == ["1.sql|1", "2.sql|1"]
    with pytest.raises(Refused, match=r'3\.sql: psql exited with code 3: .*relation "nowhere" does not exist'):
        apply(tmp_path, server.url, "3", _1=ONE, _3="INSERT INTO t VALUES ('z'); INSERT INTO nowhere VALUES (1);")
    assert server.query("SELECT a FROM t") == ["x;y"]
    with pytest.raises(Refused, match=r"1\.sql was applied with other bytes"):
        apply(tmp_path, server.url, "4", _0="CREATE TABLE u (a TEXT)", _1=ONE + " ")
    assert server.query("SELECT to_regclass('u') IS NULL") == ["t"]


def test_no_server(tmp_path: Path) -> None:
    if shutil.which("psql") is None:
        pytest.skip("psql is not installed")
    with pytest.raises(Refused, match=r"psql exited with code 2: .*refused"):
        apply(tmp_path, f"postgresql://127.0.0.1:{free_port()}/x", "1", _1=ONE)


def test_an_address_stands_in_the_environment() -> None:
    assert libpq("postgresql://me:p%40ss@db.example:6432/app?sslmode=require&application_name=web") == {
        "PGHOST": "db.example", "PGPORT": "6432", "PGUSER": "me", "PGPASSWORD": "p@ss", "PGDATABASE": "app",
        "PGSSLMODE": "require", "PGAPPNAME": "web",
    }  # fmt: skip
    with pytest.raises(Refused, match="'target_session_attrs', which is not supported"):
        libpq("postgresql:///app?target_session_attrs=any")
