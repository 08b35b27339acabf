"""The verbs that are one call and one sentence: ping, restart, rollback, version."""

from __future__ import annotations

import argparse
import platform
import time
from typing import Any, Dict

from agent.build import own_build
from agent.cli.hosts import OnHosts
from agent.cli.options import client
from agent.cli.printing import launch_sentence, print_json, print_launch
from agent.client import Client


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
    reply = ask_ping(client(args), args)
    if args.json:
        print_json(reply)
    else:
        print(ping_sentence(reply))
    return 0


def ask_ping(agent: Client, args: argparse.Namespace) -> Dict[str, Any]:
    """The answer, and how long it took."""
    started = time.monotonic()
    answer = agent.ping()
    return {"answer": answer, "url": agent.url, "seconds": round(time.monotonic() - started, 6)}


def ping_sentence(reply: Dict[str, Any]) -> str:
    """`pong from http://127.0.0.1:4499 in 0.8 ms`."""
    return f"{reply['answer']} from {reply['url']} in {reply['seconds'] * 1000:.1f} ms"


def restart(args: argparse.Namespace) -> int:
    """Start the current release again."""
    return _show(args, client(args).restart(args.project))


def rollback(args: argparse.Namespace) -> int:
    """Launch an older release."""
    return _show(args, client(args).rollback(args.project, args.version))


def version(args: argparse.Namespace) -> int:
    """Say what this file is; no agent is asked."""
    build, python, machine = own_build(), platform.python_version(), platform.machine()
    if args.json:
        print_json({"version": build.version, "digest": build.digest, "python": python, "machine": machine})
    else:
        print(f"ant-host-agent {build.version} (Python {python}, {machine})")
        print(f"sha256 {build.digest or 'none: this is a source tree'}")
    return 0


def _show(args: argparse.Namespace, reply: dict[str, object]) -> int:
    if args.json:
        print_json(reply)
    else:
        print_launch(reply)
    return 0


PING = OnHosts(ask_ping, ping_sentence)
RESTART = OnHosts(lambda agent, args: agent.restart(args.project), launch_sentence)
ROLLBACK = OnHosts(lambda agent, args: agent.rollback(args.project, args.version), launch_sentence)
