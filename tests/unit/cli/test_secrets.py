"""`secrets`: the value comes from stdin, as it is, and from nowhere else."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any, List, Tuple

import pytest

import agent.__main__ as entry
from agent.cli import secrets


class Agent:
    """Stands in for the client."""

    def __init__(self) -> None:
        self.calls: List[Tuple[str, ...]] = []
        self.value = b""

    def secrets(self, project: str) -> Any:
        self.calls.append(("list", project))
        return {"project": project, "secrets": ["a", "b"]}

    def set_secret(self, project: str, name: str, value: bytes) -> Any:
        self.calls.append(("set", project, name))
        self.value = value
        return {"status": "SecretSet", "project": project, "name": name}

    def delete_secret(self, project: str, name: str) -> Any:
        self.calls.append(("delete", project, name))
        return {"status": "SecretDeleted", "project": project, "name": name, "warnings": ["It is needed."]}


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Agent:
    made = Agent()
    monkeypatch.setattr(secrets, "client", lambda args: made)
    return made


def give(monkeypatch: pytest.MonkeyPatch, value: bytes) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False, buffer=io.BytesIO(value)))


def test_set_takes_all_of_stdin(agent: Agent, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    give(monkeypatch, b"hunter2\n\xff")
    assert entry.main(["secrets", "set", "web", "jwt"]) == 0
    assert (agent.calls, agent.value) == ([("set", "web", "jwt")], b"hunter2\n\xff")
    shown = capsys.readouterr()
    assert "web has jwt" in shown.out and "hunter2" not in shown.out + shown.err


def test_an_empty_stdin_sets_nothing(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, b"")
    assert entry.main(["secrets", "set", "web", "jwt"]) == 2
    assert agent.calls == []


def test_list_and_delete(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["secrets", "list", "web"]) == 0
    assert entry.main(["secrets", "delete", "web", "jwt"]) == 0
    assert capsys.readouterr().out == "a\nb\nweb has no jwt any more.\nIt is needed.\n"
    assert agent.calls == [("list", "web"), ("delete", "web", "jwt")]


@pytest.mark.parametrize("words", [("list", "web", "jwt"), ("set", "web"), ("delete", "web"), ("set", "web", "jwt", "hunter2")])
def test_a_value_is_no_word_of_the_command_line(agent: Agent, words: Tuple[str, ...]) -> None:
    assert entry.main(["secrets", *words]) == 2
    assert agent.calls == []
