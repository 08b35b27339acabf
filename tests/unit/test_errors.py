"""Each kind of error: the same on both ends of the wire, and clear about whose fault it was."""

from __future__ import annotations

import json
from typing import Iterator, Type

import pytest

from agent import errors
from agent.errors import KINDS, AgentError, from_problem

MEMBERS = {"project": "web", "step": "start", "exit_cause": {"kind": "exited", "code": 7}, "log_tail": ["a"], "running": None}

#: What README promises of each kind: status, exit code, further headers.
PROMISED = {
    "internal": (500, 1, {}),
    "malformed-request": (400, 2, {}),
    "unauthenticated": (401, 4, {"WWW-Authenticate": 'Basic realm="ant-host-agent", Bearer realm="ant-host-agent"'}),
    "forbidden": (403, 4, {}),
    "not-found": (404, 4, {}),
    "method-not-allowed": (405, 2, {"Allow": ""}),
    "conflict": (409, 4, {}),
    "length-required": (411, 2, {}),
    "too-large": (413, 4, {}),
    "misdirected": (421, 4, {}),
    "unsupported-media-type": (415, 2, {}),
    "artifact-fault": (422, 5, {}),
    "busy": (503, 6, {"Retry-After": "2"}),
    "too-many-attempts": (429, 4, {"Retry-After": "2"}),
    "storage-full": (507, 6, {}),
}


def all_kinds() -> Iterator[Type[AgentError]]:
    """Those of the module; `__subclasses__` would give those of other tests, too."""
    return (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AgentError))


def test_every_kind_that_travels_is_promised() -> None:
    assert set(KINDS) == set(PROMISED)


def test_no_two_kinds_share_a_name() -> None:
    names = [kind.kind for kind in all_kinds()]
    assert len(names) == len(set(names))


def test_only_what_never_travels_is_left_out() -> None:
    assert {kind.kind for kind in all_kinds()} - set(KINDS) == {"usage", "already-running", "unreachable"}
    assert [kind.exit_code for kind in (errors.UsageError, errors.AlreadyRunning, errors.Unreachable)] == [2, 3, 7]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_a_kind_stands_for(kind: Type[AgentError]) -> None:
    error = kind("It is so.")
    assert (error.status, error.exit_code, error.headers) == PROMISED[kind.kind]
    assert str(error) == error.detail == "It is so."


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_problem_becomes_the_same_error_again(kind: Type[AgentError]) -> None:
    sent = kind("It is so.", "Do something about it.", **MEMBERS)
    problem = json.loads(json.dumps(sent.to_problem()))
    assert problem == {
        "type": "urn:ant-host-agent:" + kind.kind, "title": kind.title, "status": kind.status, "detail": "It is so.",
        "hint": "Do something about it.", **MEMBERS,
    }  # fmt: skip
    received = from_problem(problem)
    assert type(received) is kind
    assert (received.detail, received.hint, received.members) == (sent.detail, sent.hint, sent.members)
    assert (received.status, received.exit_code) == (sent.status, sent.exit_code)
    assert received.to_problem() == problem


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_an_error_without_a_hint_of_its_own_has_no_empty_one(kind: Type[AgentError]) -> None:
    assert kind("It is so.").to_problem().get("hint") != ""
    received = from_problem(kind("It is so.").to_problem())
    assert received.hint == kind("It is so.").hint


def test_the_methods_that_are_allowed_become_a_header() -> None:
    error = from_problem(errors.MethodNotAllowed("No.", allow=["GET", "POST"]).to_problem())
    assert error.headers == {"Allow": "GET, POST"}


def test_a_busy_host_says_when_to_come_back() -> None:
    error = errors.Busy("Not now.", retry_after_seconds=7)
    assert error.headers == {"Retry-After": "7"}
    assert "retry_after_seconds" not in error.to_problem()


@pytest.mark.parametrize("kind", ["urn:ant-host-agent:of-a-newer-version", "about:blank", "", None])
def test_a_problem_of_a_newer_agent_keeps_its_status_and_words(kind: object) -> None:
    error = from_problem({"type": kind, "title": "T", "status": 418, "detail": "It is so.", "hint": "Do it.", "x": 1})
    assert type(error) is AgentError
    assert (error.status, error.detail, error.hint, error.members) == (418, "It is so.", "Do it.", {"x": 1})
    assert AgentError("Another.").status == 500


def test_an_empty_problem_is_an_error_all_the_same() -> None:
    error = from_problem({})
    assert (error.status, error.detail, error.exit_code) == (500, "", 1)
