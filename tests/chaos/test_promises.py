"""The questions of the chaos themselves: each promise, kept and broken, as something that was seen."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, Dict, List, cast

import pytest

from tests.chaos.clients import SECRET, Client, Planned, Supply
from tests.chaos.history import LOST
from tests.chaos.promises import find_disorder, find_hole, find_secret, runs_in, unhelpful, was_disturbed
from tests.support.agent import AgentHost
from tests.support.http import Response

STATUS = {"pid": 7, "run": 1, "started_at": "2026", "version": "1", "want": "up", "state": "ready", "restarts": 0}
RECORD = {"state": "ready", "successor": None, "version": "1", "pid": 8, "shim": {"pid": 7}}
REST: Dict[str, Any] = {
    "record": RECORD, "wanted": "1", "current": "releases/1", "shims": [7], "agents": [8], "staging": [], "strangers": [],
}  # fmt: skip
BUSY = {"type": "urn:x", "title": "Busy", "status": 503, "detail": "it is busy", "hint": "send it again"}
LATER = {"retry-after": "5"}


@pytest.mark.parametrize(
    "output", [b"", b"1 70 0\n1 70 1\n", b"1 70 0\n1 70 1\n2 71 0\n2 71 1\n", b"1 70 0\n1 70 1\n1 70 0\n"], ids=repr
)
def test_output_is_whole(output: bytes) -> None:
    assert find_hole(output) is None


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (b"1 70 1\n", "1 70 1"),
        (b"1 70 0\n1 70 2\n", "1 70 2"),
        (b"1 70 0\n1 70 1\n1 70 1\n", "line 2 of run '1 70'"),
        (b"1 70 0\n1 70 1\n1 71 1\n", "1 71 1"),
        (b"1 70 0\n1 71 0\n1 70 1\n", "line 1 of run '1 71'"),
        (b"1 70 0\n1 7", "1 7"),
    ],
    ids=["its first is missing", "one is missing", "one is there twice", "a run without a first", "two runs at once", "torn"],
)
def test_a_lost_line_and_a_second_run_are_told(output: bytes, told: str) -> None:
    assert told in str(find_hole(output))


def test_runs_are_counted_by_their_first_lines() -> None:
    assert runs_in(b"1 70 0\n1 70 1\n2 71 0\n2 71 10\n1 70 0\n") == [b"1 70", b"2 71", b"1 70"]


def test_who_runs_on_was_not_disturbed() -> None:
    assert was_disturbed(STATUS, {**STATUS, "uptime_seconds": 9}) is None


@pytest.mark.parametrize("change", [{"pid": 8}, {"run": 2}, {"state": "exited"}, {"want": "down"}, {"restarts": 1}], ids=str)
def test_who_was_started_again_or_ended_was_disturbed(change: Dict[str, object]) -> None:
    assert str(next(iter(change))) in str(was_disturbed(STATUS, {**STATUS, **change}))


def test_a_refusal_that_tells_what_to_do_helps() -> None:
    assert unhelpful(503, LATER, BUSY) == []


@pytest.mark.parametrize(
    ("status", "headers", "change", "told"),
    [
        (503, {}, {}, "Retry-After"),
        (503, {"retry-after": "soon"}, {}, "Retry-After"),
        (503, LATER, {"hint": ""}, "hint"),
        (503, LATER, {"detail": ""}, "detail"),
        (500, {}, {}, "its status 500"),
        (404, {}, {"status": 404, "title": None}, "title"),
    ],
)
def test_a_refusal_that_helps_nobody_is_told(status: int, headers: Dict[str, str], change: Dict[str, Any], told: str) -> None:
    assert any(told in line for line in unhelpful(status, headers, {**BUSY, **change}))


def test_an_agent_at_rest_is_in_order() -> None:
    assert find_disorder(**REST) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"record": {**RECORD, "state": "running"}}, "state"),
        ({"record": {**RECORD, "successor": {"pid": 9}}}, "successor"),
        ({"record": {**RECORD, "shim": None}}, "shims"),
        ({"wanted": "2"}, "version"),
        ({"current": "releases/2"}, "current"),
        ({"current": None}, "current"),
        ({"shims": []}, "shims"),
        ({"shims": [7, 9]}, "shims"),
        ({"agents": [8, 9]}, "agents"),
        ({"staging": ["an upload"]}, "staging"),
        ({"strangers": ["ant-host-canary"]}, "further projects"),
    ],
    ids=str,
)
def test_what_is_left_over_is_told(change: Dict[str, Any], told: str) -> None:
    assert any(line.startswith(told) for line in find_disorder(**{**REST, **change}))


def test_a_secret_in_a_file_is_told() -> None:
    assert find_secret(b"s3cret", {"log": b"a s3cret!", "audit.jsonl": b"{}"}) == ["log"]


class Told:
    """A host whose every answer is this one."""

    def __init__(self, answer: object, folder: str = "") -> None:
        self._answer, self._folder = answer, folder

    def request(self, *_: object) -> Response:
        if isinstance(self._answer, OSError):
            raise self._answer
        return cast(Response, self._answer)

    def path(self, *parts: str) -> str:
        return "/".join((self._folder, *parts))


def ask(host: Told, verb: str) -> Client:
    """A client that has made one call."""
    client = Client(cast(AgentHost, host), 0, [Planned("ants", verb, "")], Supply({}, {}))
    client.run()
    return client


def told_by(status: int, document: Dict[str, Any]) -> Response:
    return Response(status, {"content-type": "application/json"}, json.dumps(document).encode())


@pytest.mark.parametrize("error", [ConnectionRefusedError("refused"), socket.timeout("timed out")], ids=str)
def test_nobody_is_refused_or_left_without_an_answer(error: OSError) -> None:
    assert str(error) in ask(Told(error), "status").wrong[0]


def test_a_call_may_be_cut_short_by_the_death_of_the_agent() -> None:
    client = ask(Told(ConnectionResetError()), "status")
    assert client.wrong == [] and client.calls["ants"][0].status == LOST


def test_no_answer_may_hold_a_secret() -> None:
    assert "a secret" in ask(Told(told_by(200, {"want": "up", "value": SECRET.decode()})), "status").wrong[0]


@pytest.mark.parametrize(("there", "wrong"), [(["about-to-be-ready-1"], 0), ([], 1)], ids=["it was", "it was not"])
def test_who_is_told_to_be_ready_was_about_to_be(tmp_path: Path, there: List[str], wrong: int) -> None:
    data = tmp_path / "projects" / "ants" / "data"
    data.mkdir(parents=True)
    for name in there:
        (data / name).touch()
    answer = told_by(200, {"version": "1", "pid": 1})  # that one is alive, for sure
    assert len(ask(Told(answer, str(tmp_path)), "restart").wrong) == wrong
