"""What people see of replies."""

from __future__ import annotations

import io
from typing import Any, Dict

import pytest

from agent.cli.printing import aligned, duration, has_colours, print_launch, print_table, printable, progress_text
from agent.cli.status import in_detail

REPLY: Dict[str, Any] = {
    "status": "LaunchSuccessful", "project": "web", "version": "2", "pid": 7, "state": "ready", "replaced": "1",
    "warnings": ["'ports' means nothing here"],
    "steps": [{"name": "unpack", "seconds": 0.5}, {"name": "start", "seconds": 1}],
}  # fmt: skip


def test_a_projects_text_can_not_steer_the_terminal() -> None:
    assert printable("a\x1b[2J\nb\x07\u202e") == "a?[2J b??"
    assert printable(None) == printable("") == "-"
    assert printable(0) == "0"


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert aligned([("a", "bb"), ("ccc", "d")]) == ["a    bb", "ccc  d"]
    assert aligned([]) == []


def test_a_piped_table_is_separated_by_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([("PROJECT", "PID"), ("web", None)])
    assert capsys.readouterr().out == "PROJECT\tPID\nweb\t-\n"


def test_a_launch_is_a_sentence_and_its_steps(capsys: pytest.CaptureFixture[str]) -> None:
    print_launch(REPLY)
    shown = capsys.readouterr()
    assert shown.out == "web 2 is up (ready, pid 7) and replaces 1.\n  unpack  0.500 s\n  start   1.000 s\n"
    assert shown.err == "ant-host-agent: warning: 'ports' means nothing here\n"


def test_a_launch_that_changed_nothing_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_launch({**REPLY, "status": "AlreadyRunning", "warnings": [], "steps": []})
    assert capsys.readouterr().out == "web 2 was there already (ready, pid 7); nothing had to change.\n"


def test_one_project_in_detail() -> None:
    lines = in_detail({
        "project": "web", "version": "2", "state": "backoff", "explanation": "exited with code 1, starts again in 2 s",
        "pid": None, "restarts": 3, "warnings": ["w"],
        "exits": [{"at": "T", "exit_cause": {"code": 1, "text": "exited with code 1"}}],
    })  # fmt: skip
    assert lines[0] == "web is backoff: exited with code 1, starts again in 2 s"
    assert "  restarts   3" in lines
    assert lines[-2:] == ["  last exit  exited with code 1 at T", "  warning    w"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (3725, "1 h 2 min"), (90000, "1 d 1 h")],
)
def test_durations_are_their_two_largest_units(seconds: object, text: str) -> None:
    assert duration(seconds) == text


def test_progress_with_and_without_a_total() -> None:
    bar = "█" * 6 + "░" * 18
    assert progress_text("uploading", 12_000_000, 48_000_000, 2.0) == f"uploading {bar} 25 % of 48.0 MB, 6.0 MB/s, 6 s left"
    assert progress_text("uploading", 48_000_000, 48_000_000, 8.0) == f"uploading {'█' * 24} 100 % of 48.0 MB, 6.0 MB/s"
    assert progress_text("uploading", 0, 48_000_000, 8.0) == f"uploading {'░' * 24} 0 % of 48.0 MB, 0.0 MB/s"
    assert progress_text("downloading", 1_000_000, 0, 0.0) == "downloading 1.0 MB, 1000.0 MB/s"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_colours(Terminal(), {"TERM": "xterm"})
    assert not has_colours(Terminal(), {"TERM": "xterm", "NO_COLOR": "1"})
    assert not has_colours(Terminal(), {"TERM": "dumb"})
    assert not has_colours(io.StringIO(), {"TERM": "xterm"})


def test_a_table_on_a_terminal_is_aligned_and_its_states_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "24")
    print_table([("PROJECT", "STATE", "WHY"), ("ready", "failed", "x" * 40), ("web", "ready", "")])
    header, failed, ready = terminal.getvalue().splitlines()
    assert header == "\x1b[1mPROJECT  STATE   WHY\x1b[0m"
    assert failed == "ready    \x1b[31mfailed\x1b[0m  " + "x" * 6 + "…"
    assert ready == "web      \x1b[32mready\x1b[0m   -"
