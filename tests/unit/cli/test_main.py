"""Which words mean which verb, and what people read when it goes wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import List, Optional

import pytest

from agent import __main__ as entry
from agent import __version__
from agent.cli.main import SERVE_HELP, VERBS
from agent.config import OPTIONS
from agent.errors import ArtifactFault, Busy, UsageError


@pytest.mark.parametrize(
    ("words", "verb", "rest"),
    [
        ([], None, []),
        (["--listen", "127.0.0.1:1", "--no-auth"], None, ["--listen", "127.0.0.1:1", "--no-auth"]),
        (["serve", "--store", "/s"], "serve", ["--store", "/s"]),
        (["--json", "status"], "status", ["--json"]),
        (["--url", "http://h:1", "kill", "web"], "kill", ["--url", "http://h:1", "web"]),
        (["--url=http://h:1", "kill", "web"], "kill", ["--url=http://h:1", "web"]),
        (["launch", "web", "x", "--version", "1"], "launch", ["web", "x", "--version", "1"]),
    ],
)
def test_pick(words: List[str], verb: Optional[str], rest: List[str]) -> None:
    assert entry.pick(words) == (verb, rest)


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_help_names_every_verb(words: List[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(words) == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in ("serve", *VERBS))
    assert "shim" not in shown and "Exit codes" in shown


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert VERBS[verb].summary in shown and "--json" in shown


def test_serve_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["serve", "--help"]) == 0
    assert capsys.readouterr().out == SERVE_HELP
    assert all("--" + name.replace("_", "-") in SERVE_HELP for name in OPTIONS)


@pytest.mark.parametrize("words", [["--version"], ["version"]])
def test_version(words: List[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(words) == 0
    assert capsys.readouterr().out.startswith(f"ant-host-agent {__version__} ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lanch", "x"], "Did you mean `launch`?"),
        (["frobnicate"], "The verbs are serve, ping"),
        (["launch"], "The following arguments are required"),
        (["launch", "a", "b", "c"], "'c' is one word too many"),
        (["launch", "./absent"], "There is no file or folder ./absent"),
        (["launch", "https://h/a.tgz"], "needs a project and a digest"),
        (["ping", "--url", "http://h", "--host", "h"], "--url contradicts --host"),
        (["ping", "--hosts-file", "/absent"], "The hosts file /absent can't be read"),
        (["completion", "fish"], "Argument shell: invalid choice"),
        (["kill", "web", "--grace-seconds", "soon"], "--grace-seconds"),
        (["kill", "web", "--grace-seconds", "nan"], "--grace-seconds"),
        (["kill", "web", "--forse"], "--forse"),
        (["--url", "ftp://h", "ping"], "'ftp://h' is not the address of an agent"),
        (["--url", "http://h:x", "ping"], "is not the address of an agent"),
        (["--url", "http://:secret@h", "ping"], "is not the address of an agent"),
        (["kill", "../x", "--url", "http://h", "--token", "t"], "is not a project id"),
        (["--listen", "0.0.0.0:4499"], "--listen 0.0.0.0:4499 can be reached"),
        (["serve", "extra"], "'extra' is not an option of serve"),
    ],
)
def test_wrong_usage_is_a_sentence_and_exit_code_2(words: List[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(words) == 2
    shown = capsys.readouterr()
    assert said in shown.err and shown.err.startswith("ant-host-agent: ")
    assert shown.out == "" and "Traceback" not in shown.err


def test_with_json_an_error_is_its_problem_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "absent")
    words = ["launch", "web", missing, "--json", "--url", "http://127.0.0.1:1", "--token", "t"]
    assert entry.main(words) == 2
    shown = capsys.readouterr()
    problem = json.loads(shown.out)
    assert problem["type"] == "urn:ant-host-agent:usage" and missing in problem["detail"]
    assert shown.err == ""


def test_explain_shows_what_to_do_and_the_last_output() -> None:
    assert entry.explain(UsageError("It is so.")) == "ant-host-agent: It is so.\n"
    for tail in ["one\ntwo"], "one\ntwo\n", ["one", "two"]:
        shown = entry.explain(ArtifactFault("It exited.", "Look.", log_tail=tail))
        assert shown.startswith("ant-host-agent: It exited.\n  Look.\n") and "  | one\n" in shown and "two\n" in shown
    survivors = [{"pid": 7, "command": "stuck"}]
    assert "  survived: pid 7  stuck\n" in entry.explain(Busy("It is not gone.", survivors=survivors))
