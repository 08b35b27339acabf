"""The paragraph that explains a project."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from agent.cli.why import explain, parse_time

NOW = parse_time("2026-01-01T12:00:00Z") or 0.0
STATUS: Dict[str, Any] = {"project": "web", "version": "2", "want": "up"}


def test_backoff_says_what_happened_and_when_it_goes_on() -> None:
    exits = [{"at": "2026-01-01T11:59:00.5Z", "exit_cause": {"text": "exited with code 7"}}]
    status = {**STATUS, "state": "backoff", "since": "2026-01-01T11:59:00Z", "exits": exits, "restarts": 3}
    status.update(explanation="exited with code 7; starts again soon", next_start_at="2026-01-01T12:00:24Z")
    assert explain(status, [], NOW) == (
        "web 2 has been backoff for 1 min 0 s (since 2026-01-01T11:59:00Z): exited with code 7; starts again soon. "
        "The last run that ended: exited with code 7, 1 min 0 s ago (2026-01-01T11:59:00.5Z); it has been restarted 3 times. "
        "It is started again in 24 s; `restart` does so now, `rollback` goes back to the release before."
    )


def test_a_launch_that_failed_is_told_from_what_runs() -> None:
    entries = [{"event": "launch", "version": "3", "by": "ci", "ready": False, "reason": "exited with code 1 after 0.04 s"}]
    assert "The last call was `launch` of 3, which failed (exited with code 1 after 0.04 s), by ci." in explain(
        {**STATUS, "state": "ready"}, entries, NOW
    )


@pytest.mark.parametrize(
    ("state", "want", "end"),
    [
        ("ready", "up", "Nothing is to be done."),
        ("stopping", "up", "ask again in a moment."),
        ("exited", "down", "until it is launched or restarted."),
        ("failed", "up", "until it is launched, restarted or rolled back."),
    ],
)
def test_what_happens_next(state: str, want: str, end: str) -> None:
    shown = explain({**STATUS, "state": state, "want": want}, [{"event": "exit"}, {"event": "kill", "by": "ci"}], NOW)
    assert shown.startswith(f"web 2 is {state}. The last call was `kill` by ci.")
    assert shown.endswith(end)
