"""The diagram in agent/README.md says what the table says."""

from __future__ import annotations

import re
from pathlib import Path

from agent.shim.machine import TRANSITIONS

README = Path(__file__).resolve().parents[3] / "agent" / "README.md"


def test_every_arrow_is_a_transition() -> None:
    arrows = re.findall(r"^  (\w+) --> (\w+): ([a-z ]+)$", README.read_text(), re.MULTILINE)
    assert len(arrows) > 10
    for source, target, event in arrows:
        assert TRANSITIONS[source, event.replace(" ", "_")] == target
