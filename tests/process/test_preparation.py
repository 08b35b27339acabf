"""Hooks and migrations: in the new release, before the old one is touched; interrupted by anything, they begin again."""

from __future__ import annotations

import os
import signal
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

import pytest

from agent.model import Hook, Migrations
from agent.shim.record import Record, Want
from agent.store import releases
from tests.support.wait import eventually

SLEEP = "import time; print('up', flush=True); time.sleep(1000)"
SQLITE = Migrations("migrations", "sqlite:data/app.db")


def add(
    shims: Any, version: str, *hooks: str, scripts: Optional[Dict[str, str]] = None, timeout_seconds: float = 20
) -> None:  # fmt: skip
    """A release with these hooks and migrations."""
    release = shims.add_release("web", SLEEP, version=version)
    layout = shims.store.project("web")
    for name, script in (scripts or {}).items():
        folder = Path(layout.release(version), "migrations")
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(script)
    before = tuple(Hook(("/bin/sh", "-c", hook), timeout_seconds) for hook in hooks)
    releases.commit(layout, replace(release, before_launch=before, migrations=SQLITE if scripts is not None else None))


def launch(shims: Any, version: str, fallback: Optional[str] = None) -> Record:
    """The record once the outcome is known and something runs again, or nothing is left to do."""
    want = shims.handle("web").change_want(lambda last: Want(True, 0, version, fallback, prepare=True))
    return concluded(shims, want.generation)


def concluded(shims: Any, generation: int) -> Record:
    record: Record = shims.handle("web").wait(
        lambda r: r.outcome is not None and r.outcome.generation == generation and (r.outcome.ready or r.settled or r.pid), 30
    )
    assert record is not None, shims.handle("web").record()
    return record


def rows(shims: Any, query: str) -> Sequence[Any]:
    with sqlite3.connect(shims.store.project("web").data + "/app.db") as connection:
        return connection.execute(query).fetchall()


def test_hooks_run_in_the_new_release_with_its_environment(shims: Any) -> None:
    add(shims, "1", 'echo "$PROJECT $VERSION $(basename $PWD)"; touch "$PERSIST_DIR/hooked"', "echo second")
    record = launch(shims, "1")
    assert record.state == "ready" and Path(shims.store.project("web").data, "hooked").exists()
    assert [(step["name"], step.get("output")) for step in record.outcome.steps] == [
        ("before_launch", "web 1 1\n"), ("before_launch", "second\n"), ("ready", None),
    ]  # fmt: skip
    assert shims.await_output("web", b"up\n") == b"web 1 1\nsecond\nup\n"


def test_a_hook_that_fails_leaves_the_old_release_untouched(shims: Any) -> None:
    add(shims, "1")
    before = launch(shims, "1")
    add(shims, "2", "true", "echo no such column; exit 4", "touch $PERSIST_DIR/never")
    record = launch(shims, "2", fallback="1")
    assert (record.pid, record.state, record.version) == (before.pid, "ready", "1")
    failed = record.outcome
    assert (failed.ready, failed.step, failed.output) == (False, "before_launch", "no such column\n")
    assert failed.exit_cause["code"] == 4 and "hook 'echo no such column; exit 4' exited with code 4" in failed.reason
    assert not Path(shims.store.project("web").data, "never").exists()


def test_the_first_launch_fails_in_its_hook(shims: Any) -> None:
    add(shims, "1", "exit 1")
    record = launch(shims, "1")
    assert (record.state, record.settled, record.outcome.step) == ("exited", True, "before_launch")
    eventually(lambda: not shims.handle("web").is_alive, 20, "its shim leaves")


def test_a_child_that_keeps_the_output_open_holds_nothing_up(shims: Any) -> None:
    add(shims, "1", "sleep 1000 & (setsid sleep 1001 &) ; echo done")
    assert launch(shims, "1").state == "ready"
    eventually(lambda: len(shims.leftovers()) == 1, 20, lambda: f"only the project: {shims.leftovers()}")


def test_a_hook_has_its_time(shims: Any) -> None:
    add(shims, "1", "echo begun; sleep 1000", timeout_seconds=0.5)
    record = launch(shims, "1")
    assert record.outcome.output == "begun\n" and "was not done within 0.5 s" in record.outcome.reason
    eventually(lambda: shims.leftovers() == [], 20, "the hook is gone")


def test_a_kill_in_the_middle_of_a_hook_leaves_nothing(shims: Any) -> None:
    add(shims, "1", "echo begun; sleep 1000")
    shims.handle("web").change_want(lambda last: Want(True, 0, "1", prepare=True))
    shims.await_output("web", b"begun\n")
    record = shims.down("web")
    assert record.state == "exited" and [entry for entry in record.killed if "sleep 1000" in entry["command"]]
    assert shims.leftovers() == []


@pytest.mark.parametrize("victim", ["shim", "errand"])
def test_a_death_in_the_middle_of_a_hook(shims: Any, victim: str) -> None:
    gate = shims.store.root + "/gate"
    add(shims, "1", f"echo begun; while ! test -e {gate}; do sleep 0.05; done")
    want = shims.handle("web").change_want(lambda last: Want(True, 0, "1", prepare=True))
    shims.await_output("web", b"begun\n")
    record = shims.handle("web").record()
    os.kill(record.shim["pid"] if victim == "shim" else record.errand.pid, signal.SIGKILL)
    Path(gate).write_text("")
    after = concluded(shims, want.generation)
    if victim == "shim":  # the errand went on, and the next shim has heard its verdict
        assert after.outcome.ready and shims.output("web").count(b"begun") == 1
    else:
        assert (after.outcome.step, after.settled) == ("before_launch", True)
    assert [line for line in (shims.output("web").splitlines()) if line not in (b"begun", b"up")] == []


def test_migrations_are_applied_once_and_in_their_order(shims: Any) -> None:
    one = "CREATE TABLE t (a TEXT);\nCREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; SELECT 2; END; -- ; in a comment\n"
    two = "INSERT INTO t VALUES ('x;y')"
    add(shims, "1", scripts={"001_t.sql": one, "002_fill.sql": two, "README": "no migration"})
    record = launch(shims, "1")
    assert record.state == "ready" and rows(shims, "SELECT a FROM t") == [("x;y",)]
    assert record.outcome.steps[0]["applied"] == ["001_t.sql", "002_fill.sql"]
    add(shims, "2", scripts={"001_t.sql": one, "002_fill.sql": two, "003_more.sql": "INSERT INTO t VALUES ('z');"})
    assert launch(shims, "2", "1").outcome.steps[0]["applied"] == ["003_more.sql"]
    assert rows(shims, "SELECT name, version FROM ant_host_agent_migrations") == [
        ("001_t.sql", "1"), ("002_fill.sql", "1"), ("003_more.sql", "2"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("INSERT INTO t VALUES (1); INSERT INTO nowhere VALUES (1);", "no such table: nowhere, in: INSERT INTO nowhere"),
        ("INSERT INTO t VALUES (1); COMMIT; INSERT INTO nowhere VALUES (1);", "not authorized, in: COMMIT;"),
        ("INSERT INTO t VALUES (1); VACUUM;", "cannot VACUUM from within a transaction"),
    ],
    ids=["fails", "commits", "vacuums"],
)
def test_a_migration_that_fails_leaves_database_and_release_as_they_were(shims: Any, script: str, reason: str) -> None:
    add(shims, "1", scripts={"1.sql": "CREATE TABLE t (a)"})
    before = launch(shims, "1")
    add(shims, "2", scripts={"1.sql": "CREATE TABLE t (a)", "2.sql": script})
    record = launch(shims, "2", "1")
    assert (record.pid, record.outcome.step) == (before.pid, "migrations")
    assert f"2.sql: {reason}" in record.outcome.reason
    assert rows(shims, "SELECT * FROM t") == [] and len(rows(shims, "SELECT * FROM ant_host_agent_migrations")) == 1


def test_an_applied_migration_that_changed_is_refused(shims: Any) -> None:
    add(shims, "1", scripts={"1.sql": "CREATE TABLE t (a)"})
    launch(shims, "1")
    add(shims, "2", scripts={"0.sql": "CREATE TABLE u (a)", "1.sql": "CREATE TABLE t (a, b)"})
    record = launch(shims, "2", "1")
    assert "1.sql was applied with other bytes" in record.outcome.reason
    assert rows(shims, "SELECT name FROM sqlite_master WHERE name = 'u'") == []


def test_a_first_migration_that_fails_leaves_no_database(shims: Any) -> None:
    add(shims, "1", scripts={"1.sql": "nonsense"})
    assert launch(shims, "1").outcome.step == "migrations"
    assert os.listdir(shims.store.project("web").data) == []
