"""What the agent talks about: names that are refused, releases and exit causes that come back from disk."""

from __future__ import annotations

import json
import signal
from typing import Any, Callable, Dict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import model
from agent.errors import MalformedRequest
from agent.model import (
    ExitCause,
    Exited,
    FailedToStart,
    Hook,
    LogPolicy,
    Migrations,
    Readiness,
    Release,
    ResourceLimits,
    RestartPolicy,
    Signaled,
    StopPolicy,
    UnknownExit,
    cause_from_json,
    cause_to_json,
    parse_digest,
    parse_project,
    parse_version,
    signal_name,
    signal_number,
)  # fmt: skip

RELEASE = Release(
    "web", "1.0", "ab" * 32, 7, ("/bin/sh", "-c", "run"), {"A": "b"}, StopPolicy("SIGINT", 3.0),
    RestartPolicy("never", 1.0, 2.0, 3.0), LogPolicy(100, 2, ("logs/*.log",)), {"http": "127.0.0.1:80"}, {"command": "run"},
    ("unknown key 'x' was ignored",),
    "2026-01-31T12:04:31.250Z", "10.0.0.1", Readiness("tcp", "127.0.0.1:80", 4.0, 0.2), (Hook(("./migrate.sh",), 5.0),),
    Migrations("sql", "sqlite:data/app.db", 6.0), ("jwt",), "daemon", ResourceLimits(1 << 30, 0.5, 100, 200), True, 7,
)  # fmt: skip

Parser = Callable[[object], str]


def through_json(document: Dict[str, Any]) -> Dict[str, Any]:
    return json.loads(json.dumps(document))  # type: ignore[no-any-return]


# ---------------------------------------------------------------------- names


@pytest.mark.parametrize("text", ["a", "0", "ant-who-tweets", "a" * 63, "a-", "9-9"])
def test_a_project_id(text: str) -> None:
    assert parse_project(text) == text


@pytest.mark.parametrize("text", ["1", "1.0.0", "v1_2+b-3", ".1", "...", "a" * 128, "-"])
def test_a_version(text: str) -> None:
    assert parse_version(text) == text


@pytest.mark.parametrize("text", ["0" * 64, "0123456789abcdef" * 4, "0123456789ABCDEF" * 4])
def test_a_digest_is_lower_case_from_here_on(text: str) -> None:
    assert parse_digest(text) == text.lower()


NO_PROJECTS = [
    "", "-a", "A", "a_b", "a.b", "a/b", "..", "a" * 64, "a\n", "a\0", "ä", "a b", "\uff41", None, 7, b"a", ["a"],
]  # fmt: skip
NO_VERSIONS = ["", ".", "..", "a/b", "../x", "a b", "a\n", "1\0", "ä", "a" * 129, None, 1.0, b"1"]
NO_DIGESTS = ["", "0" * 63, "0" * 65, "g" * 64, "0" * 64 + "\n", "\uff10" * 64, None, 7]


@pytest.mark.parametrize(
    ("parse", "field", "value"),
    [
        *((parse_project, "project", value) for value in NO_PROJECTS),
        *((parse_version, "version", value) for value in NO_VERSIONS),
        *((parse_digest, "sha256", value) for value in NO_DIGESTS),
    ],
)
def test_what_is_none_is_refused_with_its_field(parse: Parser, field: str, value: object) -> None:
    with pytest.raises(MalformedRequest) as refused:
        parse(value)
    assert refused.value.detail.startswith(f"{field}: ")
    assert refused.value.hint
    assert len(refused.value.detail) < 140


@given(st.text())
def test_no_text_gets_through_as_more_than_one_path_member(text: str) -> None:
    for parse in (parse_project, parse_version):
        try:
            parsed = parse(text)
        except MalformedRequest:
            continue
        assert "/" not in parsed and "\0" not in parsed and parsed not in ("", ".", "..")


# ---------------------------------------------------------------------- releases


def test_a_release_comes_back() -> None:
    document = through_json(RELEASE.to_json())
    assert document["schema"] == 1
    assert Release.from_json(document) == RELEASE


def test_the_release_of_this_test_leaves_no_member_at_its_default() -> None:
    plain = Release("other", "2", "", 0, ())
    assert [name for name in Release.__dataclass_fields__ if getattr(RELEASE, name) == getattr(plain, name)] == []


def test_members_of_a_newer_version_are_left_out() -> None:
    document = through_json(RELEASE.to_json())
    for place in (document, document["stop"], document["restart"], document["logs"]):
        place["of_a_newer_version"] = {"x": [1]}
    assert Release.from_json(document) == RELEASE


def test_members_that_an_older_version_did_not_know_have_their_defaults() -> None:
    document = {"project": "web", "version": "1", "digest": "0", "size_bytes": 1, "command": ["run"], "logs": {"segments": 3}}
    assert Release.from_json(document) == Release("web", "1", "0", 1, ("run",), logs=LogPolicy(segments=3))


# ---------------------------------------------------------------------- exit causes


causes = st.one_of(
    st.builds(Exited, st.integers(0, 255)), st.builds(Signaled, st.integers(1, 64), st.booleans(), st.booleans()),
    st.builds(FailedToStart, st.text()), st.builds(UnknownExit, st.text()),
)  # fmt: skip


@given(causes)
def test_a_cause_comes_back_with_its_text(cause: ExitCause) -> None:
    document = through_json(cause_to_json(cause))
    assert document["text"] == str(cause)
    assert cause_from_json(document) == cause
    assert cause_from_json({**document, "of_a_newer_version": 1}) == cause


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (Exited(7), "exited with code 7"),
        (Signaled(9), "killed by SIGKILL"),
        (Signaled(11, core=True), "killed by SIGSEGV (core dumped)"),
        (Signaled(9, oom=True), "killed by SIGKILL (out of memory)"),
        (Signaled(40), "killed by signal 40"),
        (FailedToStart("no such file"), "could not start: no such file"),
        (UnknownExit("nobody saw it"), "ended in an unknown way (nobody saw it)"),
    ],
)
def test_a_cause_in_words(cause: ExitCause, text: str) -> None:
    assert str(cause) == text


def test_no_cause_stays_none() -> None:
    assert cause_from_json(None) is None


# ---------------------------------------------------------------------- signals


def test_signals_have_the_names_that_this_machine_gives_them() -> None:
    for number in range(1, 32):
        try:
            known = signal.Signals(number).name
        except ValueError:  # Python has no name for 16, SIGSTKFLT, before 3.11
            continue
        assert signal_number(known) == number
        # two signals have two names each (signal(7)): SIGABRT or SIGIOT, SIGIO or SIGPOLL
        assert signal_number(signal_name(number)) == number


@pytest.mark.parametrize("number", [0, -1, 32, 64])
def test_a_number_without_a_name_stays_a_number(number: int) -> None:
    assert signal_name(number) == f"signal {number}"


@pytest.mark.parametrize("name", ["", "KILL", "sigkill", "SIGNOTHING", "9"])
def test_what_is_no_signal_is_refused(name: str) -> None:
    with pytest.raises(KeyError):
        signal_number(name)


def test_the_names_are_those_of_one_to_thirty_one() -> None:
    assert [signal_number(signal_name(number)) for number in range(1, 32)] == list(range(1, 32))
    assert model.signal_name(31) == "SIGSYS"
