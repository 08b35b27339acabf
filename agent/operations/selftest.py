"""The self-test of a new agent: through its own code path it launches a canary, reads its logs and kills it."""

from __future__ import annotations

import hashlib
import time

from agent.errors import AgentError
from agent.host import files
from agent.operations import canary
from agent.operations.agent import Agent
from agent.operations.canary import CANARY
from agent.operations.kill import kill
from agent.operations.launch import LaunchCall, Upload, launch
from agent.operations.logs import tar
from agent.store import staging

_SONG = b"the canary sings"
_SCRIPT = b"#!/bin/sh\necho '%s'\nexec sleep 60\n" % _SONG
#: It ends by itself, should all who might kill it be killed; and nobody waits a second to see that it stays alive.
_MANIFEST = b'{"readiness": {"command": "true"}, "restart": {"policy": "never"}}'
_SONG_SECONDS = 5.0


def prove(agent: Agent) -> None:
    """AgentError that says which step of the canary's life failed; nothing of it is left either way."""
    path = staging.new_path(agent.store)
    files.write_atomically(path, _SCRIPT)
    upload = Upload(path, hashlib.sha256(_SCRIPT).hexdigest(), len(_SCRIPT))
    try:
        launch(agent, LaunchCall(CANARY, None, None, _MANIFEST, upload, "self-test", time.monotonic(), is_own=True))
        _await_song(agent)
        if not kill(agent, CANARY, 1.0)["killed"]:
            raise AgentError("self-test: the canary was launched, and the kill found no process.")
    finally:
        canary.clear(agent)


def _await_song(agent: Agent) -> None:
    deadline = time.monotonic() + _SONG_SECONDS
    while _SONG not in _logs(agent):
        if time.monotonic() > deadline:
            raise AgentError(f"self-test: the canary's output was not in its logs after {_SONG_SECONDS:g} s.")
        time.sleep(0.02)


def _logs(agent: Agent) -> bytes:
    archive = tar(agent, CANARY)
    try:
        return archive.read(archive.size_bytes)
    finally:
        archive.close()
