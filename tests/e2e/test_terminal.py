"""The command line on a terminal. One interpreter is enough: its output is made of the same text on each."""

from __future__ import annotations

import os
import re
from typing import Tuple

import pytest

import build
from tests.support import terminal
from tests.support.agent import AgentHost

FIXTURES = os.path.join(build.ROOT, "fixtures", "projects")


def on_terminal(host: AgentHost, *words: str, **environ: str) -> Tuple[int, str]:
    return terminal.run(host.command(*words, "--store", host.store), {"PATH": os.defpath, "LANG": "C.UTF-8", **environ})


@pytest.fixture
def table(newest_host: AgentHost) -> AgentHost:
    assert newest_host.launch_fixture("hello", "hello").status in (200, 201)
    return newest_host


def test_a_launch_shows_its_progress_and_its_steps_as_they_happen(newest_host: AgentHost) -> None:
    code, shown = on_terminal(newest_host, "launch", "slow", os.path.join(FIXTURES, "slow_ready"))
    assert code == 0, shown
    assert re.search(r"uploading █+ 100 % of \d", shown)
    lines = [line.rpartition("\r\x1b[K")[2] for line in shown.split("\n")]
    happened = [line for line in lines if re.match(r"\x1b\[2m *\d+\.\d s\x1b\[0m  ", line)]
    assert happened[0].endswith("B") and any("running" in line for line in happened), shown
    verdict = next(number for number, line in enumerate(lines) if line.startswith("slow ") and " is up (ready, pid " in line)
    assert verdict > lines.index(happened[-1])
    assert any(re.fullmatch(r"  ready +\d+\.\d{3} s", line) for line in lines[verdict:])
    code, again = on_terminal(newest_host, "launch", "slow", os.path.join(FIXTURES, "slow_ready"))
    assert code == 0 and "was there already" in again


def test_a_failed_launch_ends_with_the_reason_and_the_last_lines(newest_host: AgentHost) -> None:
    code, shown = on_terminal(newest_host, "launch", "fails", os.path.join(FIXTURES, "fails_at_start"))
    assert code == 5
    assert "exited with code 7" in shown and "  Its last output:\n  | " in shown
    assert "Traceback" not in shown


def test_the_table_has_columns_and_colours_where_they_can_be_seen(table: AgentHost) -> None:
    code, shown = on_terminal(table, "status")
    assert code == 0
    assert shown.startswith("\x1b[1mPROJECT") and "\x1b[32mready" in shown
    _, plain = on_terminal(table, "status", NO_COLOR="1")
    assert "\x1b" not in plain and re.search(r"^hello +\w+ +ready +\d+ ", plain, re.MULTILINE)
    assert all(len(line) <= 100 for line in plain.splitlines())
    piped = table.run("status", "--store", table.store).stdout.decode()
    assert "\x1b" not in piped and re.search(r"^hello\t\w+\tready\t", piped, re.MULTILINE)


def test_wrong_words_get_a_sentence_and_the_next_step(table: AgentHost) -> None:
    for words, code, said, hint in (
        (("lanch", "x"), 2, "'lanch' is not a verb", "Did you mean `launch`?"),
        (("logs", "nothing-here", "-o", "x"), 4, "There is no project 'nothing-here'", "`ant-host-agent.pyz status` lists"),
        (("launch", "./nowhere"), 2, "There is no file or folder ./nowhere", "launch [PROJECT] ARTIFACT"),
        (("kill",), 2, "PROJECT", "--help"),
    ):
        exit_code, shown = on_terminal(table, *words)
        assert exit_code == code and said in shown and hint in shown, (words, exit_code, shown)
