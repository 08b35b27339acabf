"""The verbs that are one call and one sentence: ping, restart, rollback, version."""

from __future__ import annotations

import argparse
import platform
import time

from agent import __version__
from agent.cli.options import client
from agent.cli.printing import print_json, print_launch


def project(parser: argparse.ArgumentParser) -> None:
    """What `restart` takes."""
    parser.add_argument("project", metavar="PROJECT")


def project_and_version(parser: argparse.ArgumentParser) -> None:
    """What `rollback` takes."""
    project(parser)
    parser.add_argument("--version", metavar="V", help="which release (default: the one before the current)")


def nothing(parser: argparse.ArgumentParser) -> None:
    """What `ping` and `version` take."""


def ping(args: argparse.Namespace) -> int:
    """Say that the agent answers, and how quickly."""
    agent = client(args)
    started = time.monotonic()
    answer = agent.ping()
    seconds = time.monotonic() - started
    if args.json:
        print_json({"answer": answer, "url": agent.url, "seconds": round(seconds, 6)})
    else:
        print(f"{answer} from {agent.url} in {seconds * 1000:.1f} ms")
    return 0


def restart(args: argparse.Namespace) -> int:
    """Start the current release again."""
    return _show(args, client(args).restart(args.project))


def rollback(args: argparse.Namespace) -> int:
    """Launch an older release."""
    return _show(args, client(args).rollback(args.project, args.version))


def version(args: argparse.Namespace) -> int:
    """Say what this file is; no agent is asked."""
    if args.json:
        print_json({"version": __version__, "python": platform.python_version(), "machine": platform.machine()})
    else:
        print(f"ant-host-agent {__version__} (Python {platform.python_version()}, {platform.machine()})")
    return 0


def _show(args: argparse.Namespace, reply: dict[str, object]) -> int:
    if args.json:
        print_json(reply)
    else:
        print_launch(reply)
    return 0
