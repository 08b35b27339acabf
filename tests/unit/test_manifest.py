"""The manifest: every file under fixtures/manifests is taken or refused as its folder says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent import manifest
from agent.errors import ArtifactFault
from agent.manifest import Manifest
from agent.model import Hook, LogPolicy, Migrations, Readiness, ResourceLimits, RestartPolicy, StopPolicy

FIXTURES = Path(__file__).parents[2] / "fixtures" / "manifests"
VALID = sorted((FIXTURES / "valid").glob("*.json"))
INVALID = sorted((FIXTURES / "invalid").glob("*.json"))
#: Which field each invalid one is refused for: `<file's name without .json> <field>` a line.
FIELDS = dict(line.split() for line in (FIXTURES / "invalid" / "fields.txt").read_text().splitlines())


def parse(**document: Any) -> Manifest:
    return manifest.parse(json.dumps(document).encode())


def valid(name: str) -> Manifest:
    return manifest.parse((FIXTURES / "valid" / f"{name}.json").read_bytes())


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_a_valid_manifest_is_taken(path: Path) -> None:
    assert manifest.parse(path.read_bytes()).document == json.loads(path.read_bytes())


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_an_invalid_manifest_is_refused_by_its_field(path: Path) -> None:
    with pytest.raises(ArtifactFault) as refused:
        manifest.parse(path.read_bytes())
    assert refused.value.members["field"] == FIELDS[path.stem]
    assert FIELDS[path.stem] in refused.value.detail
    assert refused.value.hint
    assert "hunter2" not in refused.value.detail, "an env value may be a secret"


def test_every_expected_field_has_its_fixture() -> None:
    assert sorted(FIELDS) == [path.stem for path in INVALID]


def test_all_that_is_acted_on_arrives() -> None:
    found = valid("all_we_act_on")
    assert (found.project, found.version, found.command) == ("web", "1.0", ("./run.sh",))
    assert found.env == {"PORT": "8080", "_a": ""}
    assert found.stop == StopPolicy("SIGINT", 0.0)
    assert found.restart == RestartPolicy("on-failure", 1.0, 60.0, 0.0)
    assert found.logs == LogPolicy(65536, 3, ("logs/*.log",), "separate")
    assert (found.keep_releases, found.warnings) == (1, ())
    assert (found.secrets, found.user, found.new_privileges) == (("jwt", "db_password"), "www-data", True)
    assert found.limits == ResourceLimits(1 << 30, 1.5, 100, 1024)


def test_without_keys_all_is_default() -> None:
    assert valid("empty") == Manifest()
    assert Manifest().keep_releases == 5


def test_a_text_command_is_run_by_the_shell() -> None:
    assert valid("command_text").command == ("/bin/sh", "-c", "exec ./server --port 8080")


def test_unknown_keys_are_named_in_warnings() -> None:
    assert valid("ecosystem").warnings == tuple(
        f"unknown key '{key}' was ignored" for key in ("description", "build", "ports", "routing")
    )
    assert valid("unknown_nested").warnings == tuple(
        f"unknown key '{key}' was ignored" for key in ("stop.graceseconds", "restart.x", "logs.y")
    )
    assert len(parse(**{"x" * 5000: 1}).warnings[0]) < 100


def test_sockets_are_acted_on_and_not_warned_of() -> None:
    found = valid("sockets")
    assert found.sockets == {"http": "127.0.0.1:3231"}
    assert found.warnings == ()


def test_the_steps_of_a_launch_arrive() -> None:
    found = valid("launch_steps")
    assert found.before_launch == (
        Hook(("/bin/sh", "-c", "./migrate.sh"), 300.0),
        Hook(("./seed", "--fast"), 300.0),
        Hook(("/bin/sh", "-c", "./slow.sh"), 600.0),
    )
    assert found.migrations == Migrations("migrations", "sqlite:data/app.db", 300.0)
    assert found.readiness == Readiness("http", "http://127.0.0.1:8080/healthz", 5.0, 0.1)
    assert found.sockets == {"http": "127.0.0.1:3231", "v6": "[::1]:80", "admin": "unix:admin.sock"}


def test_env_names_of_the_agent_are_warned_of() -> None:
    found = valid("contract_env")
    assert found.warnings == ("'env.PERSIST_DIR' has no effect: the agent sets PERSIST_DIR itself",)
    assert found.env == {"PERSIST_DIR": "/tmp", "PORT": "1"}


def test_a_long_first_delay_moves_the_longest_along() -> None:
    assert parse(restart={"delay_seconds": 90}).restart.max_delay_seconds == 90


@pytest.mark.parametrize(
    "data",
    [
        b'{"x": "' + b"x" * manifest.MAX_BYTES + b'"}',
        b'{"x": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"x":' * 10_000,
        b'{"keep_releases": ' + b"9" * 60_000 + b"}",
        b'{"\\ud800": 1}',
    ],
    ids=["too large", "lists", "objects", "digits", "surrogate key"],
)
def test_bombs_are_refused(data: bytes) -> None:
    with pytest.raises(ArtifactFault) as refused:
        manifest.parse(data)
    assert len(refused.value.detail) < 200
