"""`status`: what every project, or one, is doing and why."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any, Dict, List, Tuple

from agent.cli.hosts import OnHosts
from agent.cli.options import client
from agent.cli.printing import STATE_COLOURS, aligned, duration, paint, print_json, print_table, printable
from agent.client import Client

EPILOG = """\
On a terminal the table is aligned and coloured (not with NO_COLOR set); piped, tabs separate its columns.
"""

#: Members of a project's status, in the order of the table's columns.
COLUMNS = ("project", "version", "state", "pid", "uptime", "restarts", "explanation")
_DETAILS = ("want", "version", "digest", "pid", "shim_pid", "since", "started_at", "restarts", "next_start_at")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `status` takes."""
    parser.add_argument("project", metavar="PROJECT", nargs="?", help="one project in detail (default: all of them)")


def run(args: argparse.Namespace) -> int:
    """Print the table, or one project."""
    reply = ask(client(args), args)
    if args.json:
        print_json(reply)
    elif args.project is None:
        print_table([tuple(name.upper() for name in COLUMNS), *map(_row, reply.get("projects") or [])])
    else:
        for line in in_detail(reply):
            print(line)
    return 0


def ask(agent: Client, args: argparse.Namespace) -> Dict[str, Any]:
    """All projects of one host, or one."""
    return agent.describe() if args.project is None else agent.status(args.project)


def _sentence(reply: Dict[str, Any]) -> str:
    """`3 projects: 2 ready, 1 backoff`, or one project's headline."""
    if "projects" not in reply:
        return f"{printable(reply.get('version'))} {_headline(reply)}"
    states = Counter(printable(project.get("state")) for project in reply["projects"])
    counts = ", ".join(f"{count} {paint(state, STATE_COLOURS.get(state, ''))}" for state, count in sorted(states.items()))
    return f"{sum(states.values())} project{'' if sum(states.values()) == 1 else 's'}" + (f": {counts}" if counts else "")


def _headline(project: Dict[str, Any]) -> str:
    state = printable(project.get("state"))
    explanation = f": {printable(project['explanation'])}" if project.get("explanation") else ""
    return f"is {paint(state, STATE_COLOURS.get(state, ''))}{explanation}"


def in_detail(project: Dict[str, Any]) -> List[str]:
    """One project: what it is doing, why, and how its last run ended."""
    headline = f"{printable(project.get('project'))} {_headline(project)}"
    exits, warnings = project.get("exits") or [], project.get("warnings") or []
    rows = [(f"  {name}", printable(project[name])) for name in _DETAILS if project.get(name) is not None]
    if exits:
        last = exits[-1]
        ended = f"{printable((last.get('exit_cause') or {}).get('text'))} at {printable(last.get('at'))}"
        rows.append(("  last exit", ended))
    for release in (project.get("quarantine") or {}).values():
        version, at, reason = (printable(release.get(name)) for name in ("version", "at", "reason"))
        rows.append(("  quarantine", f"{version} since {at}: {reason}"))
    rows += [("  warning", printable(warning)) for warning in warnings]
    return [headline, *aligned(rows)]


def _row(project: Dict[str, Any]) -> Tuple[Any, ...]:
    return tuple({**project, "uptime": duration(project.get("uptime_seconds"))}.get(name) for name in COLUMNS)


ON_HOSTS = OnHosts(ask, _sentence)
