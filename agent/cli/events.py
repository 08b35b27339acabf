"""`events`: what happens on a host, a line each, as it happens."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Dict, Iterator

from agent.cli.options import client
from agent.cli.printing import printable
from agent.download import Download

EPILOG = """\
Launched, ready, exited, backoff, killed, reverted, rejected: one line each, until Ctrl-C. With --json each line
is the event as the agent sends it.

  ant-host-agent.pyz events
  ant-host-agent.pyz events web --json | jq .event
"""
#: Said of an event beside its time, project and name, whichever of them it has.
_DETAILS = ("version", "explanation", "reason")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `events` takes."""
    parser.add_argument("project", metavar="PROJECT", nargs="?", help="only what happens to this one")


def run(args: argparse.Namespace) -> int:
    """Print events until somebody ends it."""
    with client(args).events(args.project) as download:
        for event in heard(download):
            print(json.dumps(event) if args.json else sentence(event), flush=True)
    sys.stderr.write("ant-host-agent: the agent ended it, as for an upgrade. Call again.\n")
    return 0


def heard(download: Download) -> Iterator[Dict[str, Any]]:
    """The events of a stream of server-sent events: its `data` lines."""
    rest = b""
    for piece in iter(download.arriving, b""):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data: "):
                yield json.loads(line[len(b"data: ") :])


def sentence(event: Dict[str, Any]) -> str:
    """`2026-01-31T12:04:31.250Z  web  exited  1.4.0  exited with code 7`."""
    cause = (event.get("exit_cause") or {}).get("text")
    told = [event.get(name) for name in _DETAILS] + [cause]
    words = [event.get("at"), event.get("project"), event.get("event"), *(word for word in told if word)]
    return "  ".join(map(printable, words))
