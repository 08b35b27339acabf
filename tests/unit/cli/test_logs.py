"""Which call the options of `logs` make, and where its answer goes."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List

import pytest

from agent.cli import logs
from agent.cli.main import parser_of


@pytest.mark.parametrize(
    ("words", "query"),
    [
        ([], {}),
        (["--text"], {}),
        (["-f"], {"follow": "true"}),
        (["-f", "-n", "20"], {"follow": "true", "tail": 20}),
        (["--since", "10m", "--until", "90s"], {"since": "600", "until": "90"}),
        (["--since", "2h"], {"since": "7200"}),
        (["--since", "1d"], {"since": "86400"}),
        (["--since", "2026-01-31T12:04:31Z"], {"since": "2026-01-31T12:04:31Z"}),
        (["--since", "soon"], {"since": "soon"}),  # the agent says what it takes
        (["--grep", "a b", "--run", "last"], {"grep": "a b", "run": "last"}),
        (["--tail", "0"], {"tail": 0}),
    ],
)
def test_options_become_parameters_of_the_call(words: List[str], query: Dict[str, object]) -> None:
    assert dict(logs._query(parser_of("logs").parse_args(["web", *words]))) == query


def test_pipes_and_devices_are_written_in_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert [logs._is_special(path) for path in ("/dev/null", str(tmp_path / "file"), str(tmp_path / "new"))] == [
        True, False, False,
    ]  # fmt: skip
