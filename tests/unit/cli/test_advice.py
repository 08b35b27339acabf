"""No hint of the agent sends a user of the command line to HTTP."""

from __future__ import annotations

import ast
import os
import re
from typing import Iterator

import pytest

import build
from agent.cli.advice import advise, translated
from agent.errors import AgentError, NotFound, Unauthenticated, from_problem

CALL = re.compile(r"\b(GET|PUT|POST|DELETE) /|Authorization")


def texts() -> Iterator[str]:
    """Every text in what can fail on the host; what is put into it stands as `x`."""
    for folder in ("operations", "store", "shim", "host"):
        for name in os.listdir(os.path.join(build.ROOT, "agent", folder)):
            path = os.path.join(build.ROOT, "agent", folder, name)
            for node in ast.walk(ast.parse(build.read(path))) if name.endswith(".py") else ():
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value
                elif isinstance(node, ast.JoinedStr):
                    yield "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values)


def test_each_call_that_a_hint_names_has_a_command() -> None:
    hints = {text for text in texts() if CALL.search(text) and not text.startswith("\n") and "\n" not in text.strip()}
    hints = {hint for hint in hints if not hint.endswith("/") and "`GET" not in hint}  # a piece of one that is there; prose
    assert len(hints) > 5
    assert [hint for hint in hints if CALL.search(translated(hint))] == []


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (NotFound("There is no project 'x'.", "GET /project lists what there is."), "`ant-host-agent.pyz status` lists"),
        (NotFound("No secret.", "GET /project/web/secrets lists them."), "`ant-host-agent.pyz secrets list web` lists them."),
        (from_problem(Unauthenticated().to_problem()), "--token-file"),
    ],
)
def test_what_a_user_reads(error: AgentError, word: str) -> None:
    advise(error)
    assert word in str(error.hint)
