"""`stop`: end the agent of a store on this very host. Its projects run on."""

from __future__ import annotations

import argparse
import os
import signal
import time

from agent.cli.printing import print_json
from agent.config import ENVIRONMENT_PREFIX, default_store
from agent.errors import AgentError, UsageError
from agent.host import locks, procfs, signals
from agent.model import AGENT_PROJECT
from agent.shim.record import read_record
from agent.store.layout import ProjectLayout, StoreLayout

EPILOG = """\
The agent finishes the calls it is in and goes; projects and their shims stay. The next
`ant-host-agent.pyz` with the same store finds them again. This works without a key, and only
as the user that the agent runs as.
"""

_POLL_SECONDS = 0.02
_AS_ITS_USER = "Run this as the agent's own user, for example with sudo."


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `stop` takes."""
    parser.add_argument("--wait-seconds", type=float, default=60.0, metavar="N", help="the longest it may take (60)")


def run(args: argparse.Namespace) -> int:
    """Ask the agent's shim to end, and return when it is gone."""
    root = os.path.abspath(args.store or os.environ.get(ENVIRONMENT_PREFIX + "STORE") or default_store(os.environ))
    stopped = stop(StoreLayout(root).project(AGENT_PROJECT), args.wait_seconds)
    if args.json:
        print_json({"status": "Stopped" if stopped else "NotRunning", "store": root})
    elif stopped:
        print(f"The agent of {root} has stopped. Its projects run on.")
    else:
        print(f"No agent runs with the store {root}.")
    return 0


def stop(layout: ProjectLayout, wait_seconds: float) -> bool:
    """End the agent's shim, and so the agent: False when there is neither. AgentError when they do not end in time.

    The record is read again each time: a shim that was killed is replaced by one with another pid, which the agent starts.
    """
    if not _is_there(layout):
        return False
    deadline = time.monotonic() + wait_seconds
    asked = None
    while _is_there(layout):
        record = read_record(layout)
        shim = (record.shim if record else None) or {}
        identity = (shim.get("pid", 0), shim.get("start_time", 0))
        if identity != asked and identity[0] > 1 and _terminate(*identity):
            asked = identity
        if time.monotonic() > deadline:
            raise _still_there(layout, identity[0], asked is not None)
        time.sleep(_POLL_SECONDS)
    return True


def _terminate(pid: int, started: int) -> bool:
    try:
        return signals.send(pid, started, signal.SIGTERM)
    except PermissionError as error:
        raise UsageError(f"The agent (pid {pid}) belongs to another user.", _AS_ITS_USER) from error


def _is_there(layout: ProjectLayout) -> bool:
    """Whether a shim holds the lock, or an agent is alive whose shim was killed, and which is about to start another."""
    if _is_held(layout.shim_lock):
        return True
    record = read_record(layout)
    if record is None or record.pid is None or record.boot_id != procfs.boot_id():
        return False
    return procfs.is_alive(record.pid, record.start_time or 0)


def _is_held(path: str) -> bool:
    try:
        return locks.is_held(path)
    except PermissionError as error:
        raise UsageError(f"{path} can't be opened: permission denied.", _AS_ITS_USER) from error


def _still_there(layout: ProjectLayout, pid: int, asked: bool) -> AgentError:
    if asked:
        return AgentError(
            f"The agent (pid {pid}) was asked to stop and is still there: it finishes a call.",
            "Run `stop` again with a longer --wait-seconds, or end it with `kill -9`; its projects run on either way.",
        )
    return AgentError(
        f"An agent is there, but {layout.record} names no live shim of it, which could be asked to stop.",
        f"Run `stop` again; `fuser` on {layout.shim_lock} and `ps` show who is there.",
    )
