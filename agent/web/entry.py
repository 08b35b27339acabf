"""The agent's first moments: pings are answered while the rest of it is still being imported, which is half of its start."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from dataclasses import dataclass
from typing import List

from agent.config import ServeConfig
from agent.errors import UsageError
from agent.host import files, sockets
from agent.model import AGENT_PROJECT
from agent.store.layout import StoreLayout
from agent.web.front import CONNECTIONS, Front

#: Signals that wait until their handlers are there: by default each of them ends the process, and callers with it.
HELD_BACK = (signal.SIGTERM, signal.SIGHUP)
#: Of the TLS connections, each a thread, so many may wait for a request; then the oldest of them gives way.
_TLS_CONNECTIONS = 500
_SWITCH_SECONDS = 0.0005


@dataclass(frozen=True)
class Begun:
    """What the agent's process was given, and the front thread on it."""

    store: StoreLayout
    config: ServeConfig
    control: socket.socket
    front: Front


def begin(arguments: List[str]) -> Begun:
    """`agent STORE`, started by its shim with the sockets `http` and `control`; UsageError without these.

    Only a release that was ready before takes connections so early: a pong of any other would promise too much. Nor does
    one that speaks TLS, which needs OpenSSL first.
    """
    store = StoreLayout(arguments[0])
    passed = sockets.inherited(os.environ)
    if not {"http", "control"} <= passed.keys():
        raise UsageError("'agent' is started by the agent's own shim.", "Run 'ant-host-agent.pyz serve'.")
    config = ServeConfig.from_json(files.read_json(store.config) or {})
    sys.setswitchinterval(_SWITCH_SECONDS)  # Python's 5 ms would be what a ping waits for each busy thread
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    is_tls = config.scheme == "https"
    front = Front(socket.socket(fileno=passed["http"]), _TLS_CONNECTIONS if is_tls else CONNECTIONS)
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    if not is_tls and _was_ready(store):
        front.start()
    return Begun(store, config, socket.socket(fileno=passed["control"]), front)


def _was_ready(store: StoreLayout) -> bool:
    """Whether the release that this process runs from was at work here before, and is not to be proved again."""
    release = os.path.dirname(os.path.realpath(sys.argv[0]))
    return "PROVE" not in os.environ and os.path.realpath(store.project(AGENT_PROJECT).current) == release
