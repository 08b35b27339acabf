"""What any released version left in a store, beside wants and records (shim/test_record.py), loads for ever."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import build
from agent.config import ServeConfig
from agent.host import files
from agent.model import LogPolicy, Release, ResourceLimits, RestartPolicy, StopPolicy
from agent.operations import own
from agent.store import releases
from agent.store.layout import StoreLayout

VERSIONS = sorted(Path(build.ROOT, "fixtures", "records").iterdir())


@pytest.fixture(params=VERSIONS, ids=lambda folder: folder.name)
def folder(request: pytest.FixtureRequest) -> Path:
    """The files of one released version."""
    found: Path = request.param
    return found


@pytest.mark.parametrize("name", ["hello", "agent"])
def test_a_release(folder: Path, name: str, tmp_path: Path) -> None:
    document = json.loads((folder / f"release-{name}.json").read_text())
    layout = StoreLayout(str(tmp_path)).project(document["project"])
    Path(layout.release(document["version"])).mkdir(parents=True)
    shutil.copy(folder / f"release-{name}.json", layout.release_json(document["version"]))
    release = releases.read(layout, document["version"])
    assert release is not None
    assert [release] == releases.every(layout)
    names = ("project", "version", "digest", "size_bytes", "env", "manifest", "sockets", "received_at", "received_from")
    assert {name: getattr(release, name) for name in names} == {name: document[name] for name in names}
    assert list(release.command) == document["command"]
    assert Release.from_json(json.loads(json.dumps(release.to_json()))) == release


def test_what_the_first_version_did_not_know_has_its_default() -> None:
    release = Release.from_json(json.loads((VERSIONS[0] / "release-hello.json").read_text()))
    assert (release.readiness, release.migrations, release.before_launch, release.user) == (None, None, (), None)
    assert (release.limits, release.secrets, release.new_privileges) == (ResourceLimits(), (), False)
    assert release.stop == StopPolicy("SIGTERM", 0.5)
    assert release.restart == RestartPolicy("always", 0.5, 30.0, 10.0)
    assert release.logs == LogPolicy(include=("logs/*.log",))


def test_a_configuration(folder: Path) -> None:
    document = json.loads((folder / "config.json").read_text())
    config = ServeConfig.from_json(document)
    assert (config.listen, config.store, config.token_file) == (document["listen"], document["store"], document["token_file"])


def test_a_quarantine(folder: Path, tmp_path: Path) -> None:
    store = StoreLayout(str(tmp_path))
    shutil.copy(folder / "quarantine.json", store.quarantine)
    ((digest, found),) = own.quarantined(store).items()
    assert len(digest) == 64 and found["version"] == "9.9-bad" and found["reason"]
    own.acquit(store, digest)
    assert own.quarantined(store) == {}


def test_a_history(folder: Path) -> None:
    assert [line["event"] for line in files.read_lines(str(folder / "history.jsonl"))] == ["launch"]
