"""Migrations: each *.sql file of a release is applied to its database once, in a transaction, and recorded there.

The table is ant_host_agent_migrations (name, sha256, version, applied_at). Nothing is applied when a file that was
applied before has other bytes now. Called in an errand's process: it may take its time, and its memory. What only it needs
of Python's library it imports there, in functions: a shim does without, and every fork of a shim is the quicker for it.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from agent.host import clock
from agent.model import Migrations, Release
from agent.shim.command import run_to_end
from agent.shim.environment import environment
from agent.shim.rights import UNCHANGED, Rights, lend
from agent.store.layout import ProjectLayout

TABLE = "ant_host_agent_migrations"
_CREATE = (
    f"CREATE TABLE IF NOT EXISTS {TABLE} "
    "(name TEXT PRIMARY KEY, sha256 TEXT NOT NULL, version TEXT NOT NULL, applied_at TEXT NOT NULL)"
)  # fmt: skip
_ANSWER_BYTES = 4 << 20
#: What a URL may say besides where the database is, and libpq's variable for it.
_LIBPQ = {
    "host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "connect_timeout": "PGCONNECT_TIMEOUT", "options": "PGOPTIONS",
    "application_name": "PGAPPNAME",
}  # fmt: skip


class Refused(Exception):
    """Why the migrations can't be applied, or which of them failed; the database is as it was before that one."""


@dataclass(frozen=True)
class Script:
    """One file of migrations."""

    name: str
    path: str
    content: bytes
    sha256: str


def apply(release: Release, layout: ProjectLayout, migrations: Migrations, copy_to: int) -> List[str]:
    """Apply what was not applied yet, in the order of the names; the names of what was. Refused, OSError."""
    scripts = _read(f"{layout.release(release.version)}/{migrations.path}")
    if migrations.database.startswith("sqlite:"):
        path = os.path.join(layout.root, migrations.database[len("sqlite:") :])
        rights = lend(release, layout, copy_to)
        return in_child(lambda: _apply_sqlite(path, scripts, release.version, migrations.timeout_seconds, rights))
    return _apply_postgresql(_Psql(release, layout, migrations, copy_to), scripts, release.version)


def _read(folder: str) -> List[Script]:
    import hashlib

    scripts = []
    for name in sorted(name for name in os.listdir(folder) if name.endswith(".sql")):
        with open(f"{folder}/{name}", "rb") as file:
            content = file.read()
        scripts.append(Script(name, f"{folder}/{name}", content, hashlib.sha256(content).hexdigest()))
    return scripts


def _new(scripts: List[Script], known: Dict[str, str]) -> List[Script]:
    for script in scripts:
        if known.get(script.name, script.sha256) != script.sha256:
            raise Refused(
                f"{script.name} was applied with other bytes (sha256 {known[script.name][:12]}…, now {script.sha256[:12]}…). "
                "An applied migration never changes: take the change back, and add a new file."
            )
    return [script for script in scripts if script.name not in known]


def in_child(work: Callable[[], List[str]]) -> List[str]:
    """The work done in a process of its own."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer: Dict[str, Any] = {"refused": "it ended without a word"}
        try:
            answer = {"applied": work()}
        except Exception as error:
            answer = {"refused": str(error)}
        finally:
            with os.fdopen(writer, "wb") as file:
                file.write(json.dumps(answer).encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        data = file.read()
    os.waitpid(pid, 0)
    answer = json.loads(data) if data else {"refused": "its process was killed"}
    if "refused" in answer:
        raise Refused(answer["refused"])
    applied: List[str] = answer["applied"]
    return applied


# ---------------------------------------------------------------------- SQLite


def _apply_sqlite(
    path: str, scripts: List[Script], version: str, timeout_seconds: float, rights: Rights = UNCHANGED
) -> List[str]:  # fmt: skip
    import sqlite3  # which this Python may lack

    rights.take()  # now that the import is done: this user may not reach our Python
    is_new = not os.path.exists(path)
    deadline = time.monotonic() + timeout_seconds
    connection = sqlite3.connect(path, timeout=timeout_seconds, isolation_level=None)
    connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
    try:
        has_table = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (TABLE,)).fetchone()
        known = dict(connection.execute(f"SELECT name, sha256 FROM {TABLE}")) if has_table else {}
        new = _new(scripts, known)
        for script in new:
            _apply_to_sqlite(connection, script, version)
        return [script.name for script in new]
    except sqlite3.Error as error:
        raise Refused(f"{path}: {error}") from error
    finally:
        connection.close()
        if is_new and os.path.exists(path) and os.path.getsize(path) == 0:
            os.unlink(path)  # nothing was applied, and there was none


def _apply_to_sqlite(connection: Any, script: Script, version: str) -> None:
    """In one transaction, which the script itself can neither end nor leave (sqlite3_set_authorizer)."""
    import sqlite3

    is_ours = True

    def authorize(action: int, *_: Any) -> int:
        return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_TRANSACTION and not is_ours else sqlite3.SQLITE_OK

    connection.set_authorizer(authorize)
    connection.execute("BEGIN IMMEDIATE")
    statement = _CREATE
    try:
        connection.execute(_CREATE)
        is_ours = False
        for statement in _statements(script.content.decode()):
            connection.execute(statement)
        is_ours = True
        connection.execute(f"INSERT INTO {TABLE} VALUES (?, ?, ?, ?)", (script.name, script.sha256, version, clock.timestamp()))
        connection.execute("COMMIT")
    except (sqlite3.Error, sqlite3.Warning, UnicodeDecodeError) as error:
        is_ours = True
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise Refused(f"{script.name}: {error}, in: {' '.join(statement.split())[:200]}") from error


def _statements(text: str) -> Iterator[str]:
    """The statements of a script; a semicolon inside a text, a comment or a trigger ends none."""
    import sqlite3

    begin, end = 0, text.find(";")
    while end >= 0:
        if sqlite3.complete_statement(text[begin : end + 1]):
            yield text[begin : end + 1]
            begin = end + 1
        end = text.find(";", end + 1)
    if text[begin:].strip():
        yield text[begin:]


# ---------------------------------------------------------------------- PostgreSQL


class _Psql:
    """The host's psql with a project's database; where that is stands in its environment, for an argument is seen by all."""

    def __init__(self, release: Release, layout: ProjectLayout, migrations: Migrations, copy_to: int) -> None:
        import shutil

        self._release, self._layout, self._copy_to = release, layout, copy_to
        self._deadline = time.monotonic() + migrations.timeout_seconds
        environ = environment(release, layout)
        self._environ = {"PGOPTIONS": "-c client_min_messages=warning", "PGCONNECT_TIMEOUT": "10", **libpq(migrations.database)}
        self._program = shutil.which("psql", path=environ["PATH"])

    def run(self, *arguments: str, quietly: bool = False) -> str:
        """What it printed. Refused with the last of that if it failed."""
        if self._program is None:
            raise Refused("psql is not installed on this host (Debian: postgresql-client).")
        command = (self._program, "-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", *arguments)
        seconds = max(0.1, self._deadline - time.monotonic())
        ran = run_to_end(
            self._release, self._layout, command, seconds, None if quietly else self._copy_to, self._environ, _ANSWER_BYTES
        )
        output = ran.output.decode(errors="replace")
        if str(ran.cause) != "exited with code 0":
            why = f"not done within {seconds:.0f} s" if ran.cause is None else str(ran.cause)
            raise Refused(f"psql {why}: {' '.join(output.split())[-600:]}")
        return output


def libpq(database: str) -> Dict[str, str]:
    """A postgresql:// URL as libpq's environment variables. Refused for a parameter that has none."""
    from urllib.parse import parse_qsl, unquote, urlsplit

    parts = urlsplit(database)
    found: Dict[str, Optional[str]] = {
        "host": parts.hostname, "port": str(parts.port) if parts.port else None, "user": parts.username,
        "password": parts.password, "dbname": parts.path.lstrip("/"),
    }  # fmt: skip
    found = {name: unquote(value) for name, value in found.items() if value}
    found.update(parse_qsl(parts.query))
    unknown = [name for name in found if name not in _LIBPQ]
    if unknown:
        raise Refused(f"the database's URL has the parameter {unknown[0]!r}, which is not supported.")
    return {_LIBPQ[name]: value for name, value in found.items() if value is not None}


def _apply_postgresql(psql: _Psql, scripts: List[Script], version: str) -> List[str]:
    known: Dict[str, str] = {}
    if psql.run("-c", f"SELECT to_regclass('{TABLE}') IS NOT NULL", quietly=True).strip() == "t":
        lines = psql.run("-c", f"SELECT sha256 || ' ' || name FROM {TABLE}", quietly=True).splitlines()
        known = {name: digest for digest, _, name in (line.partition(" ") for line in lines)}
    new = _new(scripts, known)
    for script in new:
        values = ", ".join("'" + value.replace("'", "''") + "'" for value in _row(script, version))
        record = f"INSERT INTO {TABLE} VALUES ({values})"  # first: of two hosts at once, the second waits here, and fails
        try:
            psql.run("--single-transaction", "-c", _CREATE, "-c", record, "-f", script.path)
        except Refused as refused:
            raise Refused(f"{script.name}: {refused}") from refused
    return [script.name for script in new]


def _row(script: Script, version: str) -> Tuple[str, ...]:
    return script.name, script.sha256, version, clock.timestamp()
