"""`status`: what every project, or one, is doing and why."""

from __future__ import annotations

import argparse
from typing import Any, Dict, List, Tuple

from agent.cli.options import client
from agent.cli.printing import aligned, duration, print_json, print_table, printable

EPILOG = """\
On a terminal the table is aligned; piped, its columns are separated by tabs.
"""

#: Members of a project's status, in the order of the table's columns.
COLUMNS = ("project", "version", "state", "pid", "uptime", "restarts", "explanation")
_DETAILS = ("want", "version", "digest", "pid", "shim_pid", "since", "started_at", "restarts", "next_start_at")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `status` takes."""
    parser.add_argument("project", metavar="PROJECT", nargs="?", help="one project in detail (default: all of them)")


def run(args: argparse.Namespace) -> int:
    """Print the table, or one project."""
    agent = client(args)
    reply = agent.describe() if args.project is None else agent.status(args.project)
    if args.json:
        print_json(reply)
    elif args.project is None:
        print_table([tuple(name.upper() for name in COLUMNS), *map(_row, reply.get("projects") or [])])
    else:
        for line in in_detail(reply):
            print(line)
    return 0


def in_detail(project: Dict[str, Any]) -> List[str]:
    """One project: what it is doing, why, and how its last run ended."""
    headline = f"{printable(project.get('project'))} is {printable(project.get('state'))}"
    if project.get("explanation"):
        headline += f": {printable(project['explanation'])}"
    exits, warnings = project.get("exits") or [], project.get("warnings") or []
    rows = [(f"  {name}", printable(project[name])) for name in _DETAILS if project.get(name) is not None]
    if exits:
        last = exits[-1]
        ended = f"{printable((last.get('exit_cause') or {}).get('text'))} at {printable(last.get('at'))}"
        rows.append(("  last exit", ended))
    rows += [("  warning", printable(warning)) for warning in warnings]
    return [headline, *aligned(rows)]


def _row(project: Dict[str, Any]) -> Tuple[Any, ...]:
    return tuple({**project, "uptime": duration(project.get("uptime_seconds"))}.get(name) for name in COLUMNS)
