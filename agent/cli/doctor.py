"""`doctor`: look at this host, try a project on it for real, and say what it can and can't promise."""

from __future__ import annotations

import argparse
import os
from typing import List

from agent.cli import checks, trial
from agent.cli.checks import BAD, LIMIT, OK, Finding
from agent.cli.options import client
from agent.cli.printing import paint, print_json, printable
from agent.config import DEFAULT_LISTEN, ENVIRONMENT_PREFIX, ServeConfig, default_store
from agent.errors import EXIT_AGENT_FAULT, AgentError
from agent.host import files
from agent.store.layout import StoreLayout

EPILOG = """\
Run it on the agent's host, as the agent's user. It launches a project of its own, which floods its log and
forks a daemon twice, reads everything back, kills it and deletes it. Exits with 0, or with 1 when something has
to be mended; what this host merely can't promise (marked limit) is no failure.
"""

_COLOURS = {OK: "green", LIMIT: "yellow", BAD: "red"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `doctor` takes."""
    parser.add_argument("--no-trial", action="store_true", help="only look; launch nothing")


def run(args: argparse.Namespace) -> int:
    """Print every finding and the sum of them."""
    store = StoreLayout(os.path.abspath(args.store or os.environ.get(ENVIRONMENT_PREFIX + "STORE") or default_store(os.environ)))
    host, _, port = _listen(store).rpartition(":")
    found = checks.look(store, (host.strip("[]"), int(port)))
    runs = next(finding for finding in found if finding.topic == "port").level == OK
    if runs and not args.no_trial:
        found += _try(args)
    is_well = not any(finding.level == BAD for finding in found)
    if args.json:
        print_json({"healthy": is_well, "store": store.root, "findings": [finding.to_json() for finding in found]})
    else:
        _print(found, is_well)
    return 0 if is_well else EXIT_AGENT_FAULT


def _listen(store: StoreLayout) -> str:
    try:
        document = files.read_json(store.config)
    except OSError:  # another user's: the check of the store says so
        document = None
    return ServeConfig.from_json({**document, "store": store.root}).listen if document else DEFAULT_LISTEN


def _try(args: argparse.Namespace) -> List[Finding]:
    try:
        return trial.run(client(args))
    except AgentError as error:
        return [Finding("trial", BAD, error.detail, error.hint or "")]


def _print(found: List[Finding], is_well: bool) -> None:
    width = max(len(finding.topic) for finding in found)
    for finding in found:
        level = paint(finding.level.ljust(5), _COLOURS[finding.level])
        print(f"{level}  {finding.topic.ljust(width)}  {printable(finding.text)}")
        if finding.hint and finding.level != OK:
            print(f"{'':7}{'':{width}}  {printable(finding.hint)}")
    promises = [finding.promise for finding in found if finding.promise]
    bad = sum(finding.level == BAD for finding in found)
    print()
    if promises:
        print(f"Can't be promised here: {'; '.join(promises)}.")
    print("Everything else holds on this host." if is_well else f"{bad} finding{'' if bad == 1 else 's'} must be mended.")
