"""`token`: add, list and revoke keys, on the agent's host and in the store's own files. A running agent sees it at once."""

from __future__ import annotations

import argparse
import os
import re
import time

from agent.cli.printing import print_json, print_table
from agent.config import ENVIRONMENT_PREFIX, default_store
from agent.errors import UsageError
from agent.host import clock
from agent.model import ROLES
from agent.store import keys
from agent.store.keys import Key
from agent.store.layout import StoreLayout

EPILOG = """\
Roles: read (status and logs), deploy (also launch, restart, rollback, kill), admin (also the agent
itself). The key is printed once and kept nowhere; the store holds its digest. To rotate a key, add
a second one, change the callers, revoke the first.

  ant-host-agent.pyz token add ci --role deploy --project web --expires 90d
  ant-host-agent.pyz token revoke ci
"""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d{1,9})([smhd])")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `token` takes."""
    parser.add_argument("action", choices=("add", "list", "revoke"))
    parser.add_argument("name", nargs="?", metavar="NAME", help="who holds the key, for example ci or alice")
    parser.add_argument("--role", choices=ROLES, help="what it may do (needed to add one)")
    parser.add_argument("--project", action="append", metavar="ID", help="limit it to this project; may be repeated")
    parser.add_argument("--certificate", metavar="NAME", help="no key, but the TLS client certificate with this CN or SAN")
    parser.add_argument("--expires", metavar="WHEN", help="90d, 12h, … from now, or 2027-01-31, or 2027-01-31T12:00:00Z")


def run(args: argparse.Namespace) -> int:
    """Do one of the three."""
    store = _store(args.store)
    if (args.name is None) != (args.action == "list"):
        raise UsageError(
            f"`token {args.action}` takes {'no' if args.action == 'list' else 'a'} NAME.", "`token --help` explains."
        )
    if args.action == "add":
        return _add(args, store)
    if args.action == "revoke":
        keys.revoke(store, args.name)
        print_json({"status": "Revoked", "name": args.name}) if args.json else print(f"{args.name} opens nothing any more.")
        return 0
    return _list(args, store)


def expiry(text: str, now: float) -> str:
    """The timestamp that `--expires` names; `now` in seconds since the epoch. UsageError when it names none."""
    duration = _DURATION.fullmatch(text)
    if duration:
        return clock.timestamp(now + int(duration[1]) * _UNITS[duration[2]])
    try:
        if _DATE.fullmatch(text):
            return clock.timestamp(clock.from_timestamp(text if "T" in text else text + "T00:00:00Z"))
    except ValueError:
        pass
    raise UsageError(f"--expires {text}: this is neither a duration nor a date.", "Write 90d, 12h, or 2027-01-31.")


def _store(given: str) -> StoreLayout:
    root = os.path.abspath(given or os.environ.get(ENVIRONMENT_PREFIX + "STORE") or default_store(os.environ))
    try:
        owner = os.stat(root).st_uid
    except OSError as error:
        raise UsageError(f"There is no store {root}: {error.strerror}.", "Start the agent first, or pass --store.") from error
    if owner != os.geteuid():
        raise UsageError(f"The store {root} belongs to uid {owner}.", "Run this as that user, for example with sudo -u.")
    return StoreLayout(root)


def _add(args: argparse.Namespace, store: StoreLayout) -> int:
    if args.role is None:
        raise UsageError("`token add` needs --role.", f"The roles are {', '.join(ROLES)}.")
    expires_at = None if args.expires is None else expiry(args.expires, time.time())
    key, token = keys.add(store, args.name, args.role, args.project, expires_at, args.certificate)
    if args.json:
        print_json({**_shown(key), "token": token or None})
    else:
        print(token or f"Whoever has a certificate named {key.certificate} is {key.name} from now on.")
    return 0


def _list(args: argparse.Namespace, store: StoreLayout) -> int:
    found = keys.every(store)
    if args.json:
        print_json({"keys": [_shown(key) for key in found]})
        return 0
    now = clock.timestamp()
    rows = [("NAME", "ROLE", "PROJECTS", "EXPIRES", "CREATED")]
    for key in found:
        projects = "all" if key.projects is None else ", ".join(key.projects) or "none"
        expires = (key.expires_at or "never") + (" (expired)" if key.is_expired(now) else "")
        rows.append((key.name, key.role, projects, expires, key.created_at))
    print_table(rows)
    return 0


def _shown(key: Key) -> dict[str, object]:
    return {
        "name": key.name, "role": key.role, "projects": None if key.projects is None else list(key.projects),
        "expires_at": key.expires_at, "created_at": key.created_at, "certificate": key.certificate,
    }  # fmt: skip
