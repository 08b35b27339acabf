"""Have: which of these files the host lacks, so that a launch need not send the others."""

from __future__ import annotations

from typing import Any, Dict, Sequence, Tuple

from agent.operations.agent import Agent
from agent.store import leftout


def have(agent: Agent, project: str, wanted: Sequence[Tuple[int, str]]) -> Dict[str, Any]:
    """`{"lacking": [SHA-256, …]}` of the files given as (size, SHA-256); all of them for a project that was never here."""
    found = leftout.held(agent.store.project(project), wanted)
    return {"project": project, "lacking": [digest for _, digest in wanted if digest not in found]}
