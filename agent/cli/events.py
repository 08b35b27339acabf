"""`events`: what happens on a host, a line each, as it happens."""

from __future__ import annotations

import argparse
import json
from typing import Any, Dict, Iterator, Tuple

from agent.cli.follow import going_on
from agent.cli.options import client
from agent.cli.printing import printable
from agent.download import Download

EPILOG = """\
Launched, ready, exited, backoff, killed, reverted, rejected: one line each, until Ctrl-C, over restarts and
upgrades of the agent. With --json each line
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
    agent = client(args)
    for event in going_on(lambda after: agent.events(args.project, after), heard):
        if event:
            print(json.dumps(event) if args.json else sentence(event), flush=True)
    return 0


def heard(download: Download) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """(id, event) of each block of a stream of server-sent events; the first only tells the id, and has no event."""
    rest = b""
    for piece in iter(download.arriving, b""):
        *blocks, rest = (rest + piece).split(b"\n\n")
        for block in blocks:
            told = dict(line.partition(b": ")[::2] for line in block.split(b"\n"))
            if b"id" in told:
                yield told[b"id"].decode(), json.loads(told.get(b"data", b"{}"))


def sentence(event: Dict[str, Any]) -> str:
    """`2026-01-31T12:04:31.250Z  web  exited  1.4.0  exited with code 7`."""
    cause = (event.get("exit_cause") or {}).get("text")
    told = [event.get(name) for name in _DETAILS] + [cause]
    words = [event.get("at"), event.get("project"), event.get("event"), *(word for word in told if word)]
    return "  ".join(map(printable, words))
