"""A start on a store whose agent runs already: if it is another file, it is launched there like any new release of the agent."""

from __future__ import annotations

import os
import sys

from agent.cli.printing import launch_sentence
from agent.cli.trust import find_trust
from agent.client import Client, find_local
from agent.errors import AlreadyRunning
from agent.model import AGENT_PROJECT


def run(running: AlreadyRunning) -> int:
    """0 once this file's release is the agent; raises `running` if it is already, or the error of the launch."""
    store, pid = running.members["store"], running.members["pid"]
    if running.members["is_same"]:
        raise running
    sys.stderr.write(f"An agent serves {store} already, pid {pid}: upgrading it to this file. It keeps its own options.\n")
    url, token = find_local({}, store=store)
    reply = Client(url, token, tls=find_trust(url, store=store)).launch(AGENT_PROJECT, os.path.realpath(sys.argv[0]))
    print(launch_sentence(reply))
    return 0
