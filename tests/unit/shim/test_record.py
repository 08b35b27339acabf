"""What is on disk between agent and shim: written, read again, and read although something went wrong."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import build
from agent.host import drafts, files
from agent.shim import machine
from agent.shim.record import (
    Errand,
    Outcome,
    Record,
    Stop,
    Successor,
    Want,
    draft_want,
    needs_shim,
    read_record,
    read_want,
    settle_want,
    write_record,
    write_want,
)  # fmt: skip
from agent.store.layout import ProjectLayout

RECORDS = Path(build.ROOT, "fixtures", "records")
OF_EVERY_VERSION = sorted([*RECORDS.glob("*/want-*.json"), *RECORDS.glob("*/record-*.json")])

KILLED = ({"pid": 12, "command": "sleep 1", "signal": "SIGTERM"},)
EXIT = {"at": "2026-01-31T12:04:31.250Z", "run": 1, "exit_cause": {"kind": "exited", "code": 7, "text": "exited with code 7"}}
OUTCOME = Outcome(
    4, "1.0", False, 9, "why", {"kind": "exited", "code": 7}, "start", {"error": "no"}, ({"name": "ready", "seconds": 1.5},), "oh"
)
SUCCESSOR = Successor(
    13, 3457, "1.1", 5, 10, 6.5, True, False, 3456, "LISTEN_PID=12", "/cgroup.10", {"kind": "exited", "code": 7}, True, 8.5,
    (3, 18),
)
FULL = Record(
    "web", "stopping", "2026-01-31T12:04:31.250Z", "stopping", 4, True, "1.0", 9, 12, 3456, "2026-01-31T12:04:30.000Z", 1.5,
    {"kind": "exited", "code": 7, "text": "exited with code 7"}, 2.5, Stop("want", 3.5, KILLED), "boot", "/cgroup", True,
    {"pid": 11, "start_time": 3455}, OUTCOME, 1, 2,
    "2026-01-31T12:04:32.000Z", 4.5, (EXIT,), KILLED, KILLED, SUCCESSOR, 5.5, True,
    Errand(14, 3458, "probe", 9, 11, "boot", 7.5), 4, ({"name": "before_launch", "seconds": 0.5},), (3, 17), 1 << 20, 0.5, 1,
    10, ({"address": "127.0.0.1:3231", "inode": 77},), (4096, 3, 17),
)  # fmt: skip

texts = st.text(max_size=20)
numbers = st.integers(-(2**53), 2**53)
wants = st.builds(Want, st.booleans(), st.integers(0, 2**53), st.none() | texts, st.none() | texts, st.none() | st.floats(0, 1e6))
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(texts, below, max_size=3),
)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> ProjectLayout:
    return ProjectLayout(str(tmp_path_factory.mktemp("web")), "web")


def write(path: str, content: bytes) -> None:
    with open(path, "wb") as stream:
        stream.write(content)


def to_json(document: Any) -> bytes:
    return json.dumps(document).encode()


# ---------------------------------------------------------------------- round trips


def test_there_is_no_word_before_the_first(tmp_path: Path) -> None:
    nothing = ProjectLayout(str(tmp_path / "new"), "new")
    assert read_want(nothing) is None
    assert read_record(nothing) is None


@settings(max_examples=30, deadline=None, derandomize=True)  # each is synced to the disk
@given(wants)
def test_a_want_comes_back(layout: ProjectLayout, want: Want) -> None:
    write_want(layout, want)
    assert read_want(layout) == want


def test_a_drafted_want_counts_before_it_is_settled(layout: ProjectLayout) -> None:
    write_want(layout, Want(True, 1, "1"))
    draft_want(layout, Want(True, 2, "2"))
    assert read_want(layout) == Want(True, 2, "2")
    assert json.loads(Path(layout.want).read_text())["generation"] == 1
    settle_want(layout)
    assert read_want(layout) == Want(True, 2, "2")
    assert json.loads(Path(layout.want).read_text())["generation"] == 2


def test_the_release_is_settled_with_all_its_files_before_the_want_that_names_it(
    layout: ProjectLayout, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    done: List[str] = []
    sync, settle = files.sync_file_system, drafts.settle
    monkeypatch.setattr(files, "sync_file_system", lambda path: (done.append("sync " + path), sync(path)))
    monkeypatch.setattr(drafts, "settle", lambda path: (done.append("settle " + path), settle(path)))
    files.make_directory(layout.releases)
    drafts.write(layout.release_json("2"), {"schema": 1})
    draft_want(layout, Want(True, 2, "2"))
    settle_want(layout)
    settle_want(layout)
    assert done == ["sync " + layout.releases, "settle " + layout.release_json("2"), "settle " + layout.want]
    assert os.path.exists(layout.release_json("2"))


@pytest.mark.parametrize("record", [FULL, Record("web")], ids=["full", "empty"])
def test_a_record_comes_back(layout: ProjectLayout, record: Record) -> None:
    write_record(layout, record)
    assert read_record(layout) == record


def test_the_full_record_leaves_no_member_at_its_default() -> None:
    assert [name for name in Record.__dataclass_fields__ if getattr(FULL, name) == getattr(Record("other"), name)] == []


def test_both_say_which_schema_they_follow(layout: ProjectLayout) -> None:
    write_want(layout, Want(True, 1, "1"))
    write_record(layout, FULL)
    assert json.loads(Path(layout.want).read_text())["schema"] == 1
    assert json.loads(Path(layout.record).read_text())["schema"] == 1


def test_only_the_owner_may_read_them(layout: ProjectLayout) -> None:
    write_want(layout, Want(True, 1, "1"))
    write_record(layout, FULL)
    assert [os.stat(path).st_mode & 0o777 for path in (layout.want, layout.record)] == [0o600, 0o600]


# ---------------------------------------------------------------------- other versions


def test_members_of_a_newer_version_are_left_out(layout: ProjectLayout) -> None:
    write_record(layout, FULL)
    document: Dict[str, Any] = json.loads(Path(layout.record).read_text())
    for place in (document, document["outcome"], document["stop"], document["successor"]):
        place["of_a_newer_version"] = {"x": [1]}
    write(layout.record, to_json(document))
    assert read_record(layout) == FULL

    write_want(layout, Want(True, 3, "2", "1"))
    document = json.loads(Path(layout.want).read_text())
    write(layout.want, to_json({**document, "of_a_newer_version": 1}))
    assert read_want(layout) == Want(True, 3, "2", "1")


def test_members_that_an_older_version_did_not_know_have_their_defaults(layout: ProjectLayout) -> None:
    write(layout.record, b'{"project": "web", "stop": {"reason": "want", "deadline": 1.5}}')
    assert read_record(layout) == Record("web", stop=Stop("want", 1.5))
    write(layout.want, b'{"want": "up", "generation": 3}')
    assert read_want(layout) == Want(True, 3)


def place(path: Path, directory: Path) -> ProjectLayout:
    """The file as the want or the record of a project."""
    layout = ProjectLayout(str(directory), "hello")
    kind = path.name.partition("-")[0]
    write({"want": layout.want, "record": layout.record}[kind], path.read_bytes())
    return layout


@pytest.mark.parametrize("path", OF_EVERY_VERSION, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_any_released_version_wrote_loads_for_ever(path: Path, tmp_path: Path) -> None:
    layout = place(path, tmp_path)
    document = json.loads(path.read_text())
    want, record = read_want(layout), read_record(layout)
    if path.name.startswith("want-"):
        assert want is not None
        assert (want.up, want.generation) == (document["want"] == "up", document["generation"])
        assert (want.version, want.fallback, want.grace_seconds) == (
            document["release"], document["fallback"], document["grace_seconds"],
        )  # fmt: skip
    else:
        assert record is not None
        names = ("project", "state", "generation", "version", "run", "pid", "start_time", "boot_id", "explanation", "settled")
        assert {name: getattr(record, name) for name in names} == {name: document[name] for name in names}
        assert record.exits == tuple(document["exits"])


@pytest.mark.parametrize("state", machine.STATES)
def test_the_first_version_left_a_record_of_every_state(state: str, tmp_path: Path) -> None:
    record = read_record(place(RECORDS / "v1" / f"record-{state}.json", tmp_path))
    assert record is not None and record.state == state
    assert (record.pid is not None) == (state in machine.ALIVE)
    assert (record.stop is not None) == (state == "stopping")


def test_the_first_version_left_a_stop_under_way_and_a_failed_launch(tmp_path: Path) -> None:
    stopping = read_record(place(RECORDS / "v1" / "record-stopping.json", tmp_path))
    assert stopping is not None and stopping.stop is not None
    assert [entry["signal"] for entry in stopping.stop.killed] == ["SIGTERM", "SIGTERM"]
    failed = read_record(place(RECORDS / "v1" / "record-failed.json", tmp_path))
    assert failed is not None and failed.outcome is not None
    assert failed.outcome.exit_cause == {"kind": "exited", "code": 7, "text": "exited with code 7"}


def test_the_first_version_left_every_kind_of_want() -> None:
    assert {path.stem for path in RECORDS.glob("v1/want-*.json")} == {
        "want-up", "want-up-with-fallback", "want-down", "want-down-with-grace", "want-agent",
    }  # fmt: skip


# ---------------------------------------------------------------------- damage


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 512, b"{", b"[]", b"null", b"7", b"\xff\xfe", b"{}", b'{"state": "ready"}', b'{"project": "web", "exits": 7}',
     b'{"project": "web", "stop": {}}', b'{"project": "web", "stop": [1]}', b'{"project": "web", "stop": "want"}',
     b'{"project": "web", "outcome": {"generation": 1}}', b'{"project": "web", "outcome": 7}',
     b'{"project": "web", "successor": {"pid": 1}}', b'{"project": "web", "successor": true}'],
)  # fmt: skip
def test_a_damaged_record_is_no_record(layout: ProjectLayout, content: bytes) -> None:
    write(layout.record, content)
    assert read_record(layout) is None


def test_a_record_torn_anywhere_is_no_record(layout: ProjectLayout) -> None:
    write_record(layout, FULL)
    whole = Path(layout.record).read_bytes().rstrip()
    for length in range(len(whole)):
        write(layout.record, whole[:length])
        assert read_record(layout) is None


@given(st.dictionaries(st.sampled_from(sorted(Record.__dataclass_fields__)), json_values))
def test_whatever_a_record_holds_reading_it_never_fails(layout: ProjectLayout, document: Dict[str, Any]) -> None:
    write(layout.record, to_json(document))
    record = read_record(layout)
    assert record is None or record.project == document["project"]


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 512, b'{"want": "up", "genera', b"[]", b"null", b"\xff\xfe", b"{}", b'{"want": "up"}', b'{"generation": 1}',
     b'{"want": "sideways", "generation": 1}', b'{"want": true, "generation": 1}', b'{"want": "up", "generation": "1"}',
     b'{"want": "up", "generation": null}'],
)  # fmt: skip
def test_a_damaged_want_is_an_error_and_not_a_wish_to_be_down(layout: ProjectLayout, content: bytes) -> None:
    write(layout.want, content)
    with pytest.raises(ValueError):
        read_want(layout)


def test_a_want_that_is_none_names_its_file(layout: ProjectLayout) -> None:
    files.write_json(layout.want, {"want": "up"})
    with pytest.raises(ValueError, match=r"want\.json"):
        read_want(layout)


# ---------------------------------------------------------------------- who needs a shim


@pytest.mark.parametrize(
    ("want", "record", "needed"),
    [
        (None, None, False),
        (None, Record("web", generation=4), False),
        (Want(True, 4, "1"), None, True),
        (Want(False, 4), None, True),
        (Want(True, 4, "1"), Record("web", "ready", generation=4), True),
        (Want(True, 4, "1"), Record("web", "failed", generation=4, settled=True), False),
        (Want(False, 4), Record("web", "exited", generation=4, settled=True), False),
        (Want(True, 5, "1"), Record("web", "exited", generation=4, settled=True), True),
        (Want(False, 5), Record("web", "ready", generation=4), True),
    ],
)
def test_who_needs_a_shim(want: Optional[Want], record: Optional[Record], needed: bool) -> None:
    assert needs_shim(want, record) is needed


def test_a_settled_record_stays_settled_for_its_own_generation_only() -> None:
    settled = replace(FULL, settled=True)
    assert [needs_shim(Want(True, generation), settled) for generation in (3, 4, 5)] == [True, False, True]
