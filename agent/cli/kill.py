"""`kill`: end a project's whole tree and list what was killed."""

from __future__ import annotations

import argparse
from typing import Any, Dict

from agent.cli.hosts import OnHosts
from agent.cli.options import client
from agent.cli.printing import aligned, print_json, printable
from agent.client import Client
from agent.errors import EXIT_AGENT_FAULT

EPILOG = """\
The project stays down, across reboots too, until it is launched or restarted.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `kill` takes."""
    parser.add_argument("project", metavar="PROJECT")
    parser.add_argument("--grace-seconds", type=_seconds, metavar="N", help="how long it may take to end by itself")
    parser.add_argument("--purge", action="store_true", help="then delete its releases, logs and data, too")


def run(args: argparse.Namespace) -> int:
    """Kill, and print every process that was killed; exit code 1 when something survived."""
    reply = ask(client(args), args)
    if args.json:
        print_json(reply)
    else:
        _print(args.project, reply)
    return _code(reply)


def ask(agent: Client, args: argparse.Namespace) -> Dict[str, Any]:
    """One kill on one host."""
    return agent.kill(args.project, args.grace_seconds, args.purge)


def _code(reply: Dict[str, Any]) -> int:
    return EXIT_AGENT_FAULT if reply.get("survivors") else 0


def _sentence(reply: Dict[str, Any]) -> str:
    killed, survivors = reply.get("killed") or [], reply.get("survivors") or []
    if reply.get("status") == "NothingToKill":
        return "was not running; there was nothing to kill"
    return f"{len(killed)} process{'' if len(killed) == 1 else 'es'} ended" + (
        f", {len(survivors)} SURVIVED" if survivors else ""
    )


def _print(project: str, reply: Dict[str, Any]) -> None:
    killed, survivors = reply.get("killed") or [], reply.get("survivors") or []
    if reply.get("status") == "NothingToKill":
        print(f"{project} was not running; there was nothing to kill.")
    else:
        print(f"{project} is down; {len(killed)} process{'' if len(killed) == 1 else 'es'} ended:")
    rows = [(f"  {printable(p.get('pid'))}", printable(p.get("signal")), printable(p.get("command"))) for p in killed]
    rows += [(f"  {printable(p.get('pid'))}", "SURVIVED", printable(p.get("command"))) for p in survivors]
    for line in aligned(rows):
        print(line)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds from 0")
    return seconds


ON_HOSTS = OnHosts(ask, _sentence, code=_code)
