"""`why`: one paragraph on one project: what happened, why, what happens next and when; then its last lines."""

from __future__ import annotations

import argparse
import calendar
import time
from typing import Any, Dict, List, Optional

from agent.cli.options import client
from agent.cli.printing import duration, print_json, printable

EPILOG = """\
  ant-host-agent.pyz why web
  ant-host-agent.pyz why web --lines 50
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `why` takes."""
    parser.add_argument("project", metavar="PROJECT")
    parser.add_argument("--lines", type=int, default=10, metavar="N", help="how many of its last lines to show (10)")


def run(args: argparse.Namespace) -> int:
    """Print the paragraph and the lines."""
    agent = client(args)
    status = agent.status(args.project)
    entries = agent.history(args.project).get("history") or []
    with agent.text(args.project, tail=max(0, args.lines)) as download:
        lines = b"".join(iter(download.read, b"")).decode(errors="replace").splitlines()
    paragraph = explain(status, entries, time.time())
    if args.json:
        print_json({"project": args.project, "why": paragraph, "status": status, "last_lines": lines})
        return 0
    print(paragraph)
    if lines:
        print("\nIts last lines:")
    for line in lines:
        print(f"  | {printable(line) if line else ''}")
    return 0


def explain(status: Dict[str, Any], entries: List[Dict[str, Any]], now: float) -> str:
    """The paragraph, from the status and the history; `now` in seconds since the epoch."""
    return " ".join(filter(None, (_what(status, now), _how_it_ended(status, now), _who(entries, now), _next(status, now))))


def _what(status: Dict[str, Any], now: float) -> str:
    state, since = printable(status.get("state")), parse_time(status.get("since"))
    is_state = f"is {state}"
    if since is not None:
        is_state = f"has been {state} for {duration(max(0.0, now - since))} (since {printable(status.get('since'))})"
    text = f"{printable(status.get('project'))} {printable(status.get('version'))} {is_state}"
    explanation = printable(status.get("explanation") or "").rstrip(".")
    return text + (f": {explanation}." if explanation != "-" else ".")


def _how_it_ended(status: Dict[str, Any], now: float) -> str:
    if not status.get("exits"):
        return ""
    last = status["exits"][-1]
    when = _ago(last.get("at"), now)
    restarts = status.get("restarts") or 0
    again = f"; it has been restarted {restarts} time{'' if restarts == 1 else 's'}" if restarts else ""
    cause = printable((last.get("exit_cause") or {}).get("text"))
    return f"The last run that ended: {cause}{', ' + when if when else ''}{again}."


def _who(entries: List[Dict[str, Any]], now: float) -> str:
    """The last thing that somebody did to it: who, what, when."""
    acts = [entry for entry in entries if entry.get("by") and entry.get("event")]
    if not acts:
        return ""
    last, when = acts[-1], _ago(acts[-1].get("at"), now)
    failed = last.get("ready") is False
    which = f" of {printable(last.get('version'))}, which failed ({printable(last.get('reason'))})," if failed else ""
    return f"The last call was `{printable(last['event'])}`{which} by {printable(last['by'])}{', ' + when if when else ''}."


def _next(status: Dict[str, Any], now: float) -> str:
    state, starts = status.get("state"), parse_time(status.get("next_start_at"))
    if state == "backoff" and starts is not None:
        left = f"in {duration(starts - now)}" if starts > now else "at once"
        return f"It is started again {left}; `restart` does so now, `rollback` goes back to the release before."
    if state in ("ready", "running"):
        return "Nothing is to be done."
    if state in ("starting", "stopping"):
        return "It is about to change; ask again in a moment."
    if status.get("want") == "down":
        return "It stays down, across reboots too, until it is launched or restarted."
    return "It stays as it is until it is launched, restarted or rolled back."


def _ago(text: object, now: float) -> str:
    at = parse_time(text)
    if at is None:
        return ""
    return f"{duration(max(0.0, now - at))} ago ({printable(text)})"


def parse_time(text: object) -> Optional[float]:
    """Seconds since the epoch of a timestamp as the agent writes it (UTC), None for anything else."""
    try:
        return float(calendar.timegm(time.strptime(str(text)[:19], "%Y-%m-%dT%H:%M:%S")))
    except ValueError:
        return None
