"""What to do, in the words of the command line: the agent's own hints name calls of its API."""

from __future__ import annotations

import re

from agent.errors import AgentError, Unauthenticated

#: In this order: the first ones are longer than what they begin with.
_WORDS = (
    (r"PUT /project/\S+/secrets/\S+, or ", ""),
    (r"GET /project/([a-z0-9-]+)/secrets", r"`ant-host-agent.pyz secrets list \1`"),
    (r"POST /project/([a-z0-9-]+)/restart", r"`ant-host-agent.pyz restart \1`"),
    (r"POST /project/<id>/have", "the agent"),
    (r"GET /project/<id>/history", "history.jsonl in the tar of `ant-host-agent.pyz logs PROJECT`"),
    (r"GET /project/<id>", "`ant-host-agent.pyz status PROJECT`"),
    (r"GET /project", "`ant-host-agent.pyz status`"),
)
_NO_KEY = (
    "It is missing, or not one of that agent's: --token-file FILE or $ANT_HOST_AGENT_TOKEN. On the agent's own host it is found "
    "by itself by whoever may read the store (sudo)."
)


def advise(error: AgentError) -> None:
    """Put the error's hint into these words."""
    if isinstance(error, Unauthenticated):
        error.hint = _NO_KEY
    elif error.hint:
        error.hint = translated(error.hint)


def translated(hint: str) -> str:
    """The hint with commands in the place of calls."""
    for call, command in _WORDS:
        hint = re.sub(call, command, hint)
    return hint
