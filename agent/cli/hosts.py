"""One verb on many hosts at once: a line each as they answer, and one exit code for all."""

from __future__ import annotations

import argparse
import re
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Callable, ContextManager, Dict, List, Optional, Sequence

from agent.cli.printing import paint, print_json, printable
from agent.cli.trust import find_trust
from agent.client import Client, find_local
from agent.config import DEFAULT_LISTEN
from agent.connection import reason
from agent.errors import AgentError, UsageError

Json = Dict[str, Any]

AT_ONCE = 16
_PORT = DEFAULT_LISTEN.rpartition(":")[2]


@dataclass(frozen=True)
class OnHosts:
    """How a verb runs on one of many hosts: the call, its reply in a line, and what is done once around all."""

    ask: Callable[[Client, argparse.Namespace], Json]
    line: Callable[[Json], str]
    prepared: Callable[[argparse.Namespace], ContextManager[None]] = lambda args: nullcontext()
    code: Callable[[Json], int] = lambda reply: 0


@dataclass(frozen=True)
class Host:
    """One host to call; `name` is what the user wrote."""

    name: str
    url: str
    token_file: Optional[str] = None


@dataclass(frozen=True)
class Outcome:
    """What one host said: a reply or an error."""

    host: Host
    exit_code: int
    reply: Optional[Json] = None
    error: Optional[AgentError] = None

    def to_json(self) -> Json:
        """`{"host", "url", "exit_code", "reply" | "problem"}`."""
        said: Json = {"problem": self.error.to_problem()} if self.error else {"reply": self.reply or {}}
        return {"host": self.host.name, "url": self.host.url, "exit_code": self.exit_code, **said}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that name several hosts."""
    group = parser.add_argument_group("several hosts at once (a line each; exits with the code of the first that failed)")
    group.add_argument("--host", action="append", metavar="HOST[:PORT]", help="a host, or its URL; again for each further one")
    group.add_argument("--hosts-file", metavar="FILE", help="a host a line, and after it, if it has its own, its key's file")


def named(args: argparse.Namespace) -> List[Host]:
    """The hosts that the options name, each once and in their order; none where one agent is meant."""
    hosts = [parse(text) for text in getattr(args, "host", None) or ()]
    if getattr(args, "hosts_file", None):
        hosts += read_file(args.hosts_file)
    if hosts and args.url:
        raise UsageError("--url contradicts --host and --hosts-file.", "Name one agent with --url, or several with --host.")
    return list({host.url: host for host in hosts}.values())


def parse(line: str) -> Host:
    """`HOST`, `HOST:PORT`, `[IPV6]:PORT` or a URL, and maybe the path of its key's file behind it."""
    name, _, token_file = line.strip().partition(" ")
    if "://" in name:
        url = name
    else:
        bare = f"[{name}]" if name.count(":") > 1 and not name.startswith("[") else name
        url = "http://" + (bare if re.search(r":\d+$", bare.rpartition("]")[2]) else f"{bare}:{_PORT}")
    return Host(name, url, token_file.strip() or None)


def read_file(path: str) -> List[Host]:
    """The hosts in a file; blank lines and those that begin with # are none."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The hosts file {path} can't be read: {reason(error)}.", "Write one host a line.") from error
    found = [parse(line) for line in lines if line and not line.startswith("#")]
    if not found:
        raise UsageError(f"The hosts file {path} names no host.", "Write one host a line.")
    return found


def run(verb: OnHosts, hosts: Sequence[Host], args: argparse.Namespace) -> int:
    """Call all of them, AT_ONCE at a time; the exit code is 0, or that of the first in the list that failed."""
    width = max(len(host.name) for host in hosts)
    outcomes: Dict[str, Outcome] = {}
    with verb.prepared(args), ThreadPoolExecutor(AT_ONCE) as pool:
        for future in as_completed([pool.submit(_call, verb, host, args) for host in hosts]):
            outcome = future.result()
            outcomes[outcome.host.url] = outcome
            if not args.json:
                print(_line(verb, outcome, width), flush=True)
    ordered = [outcomes[host.url] for host in hosts]
    failed = [outcome for outcome in ordered if outcome.exit_code]
    if args.json:
        print_json({"hosts": [outcome.to_json() for outcome in ordered]})
    else:
        sys.stderr.write(f"{len(ordered) - len(failed)} of {len(ordered)} hosts: done.\n")
    return failed[0].exit_code if failed else 0


def _call(verb: OnHosts, host: Host, args: argparse.Namespace) -> Outcome:
    try:
        url, token = find_local(url=host.url, token=args.token, token_file=host.token_file or args.token_file, store=args.store)
        reply = verb.ask(Client(url, token, tls=find_trust(url, args.ca, args.client_cert, args.store)), args)
    except AgentError as error:
        return Outcome(host, error.exit_code, error=error)
    return Outcome(host, verb.code(reply), reply)


def _line(verb: OnHosts, outcome: Outcome, width: int) -> str:
    name = outcome.host.name.ljust(width)
    if outcome.error is not None:
        return f"{name}  {paint('failed', 'red')}  {printable(outcome.error.detail)}"
    mark = paint("FAILED", "red") if outcome.exit_code else paint("ok    ", "green")
    return f"{name}  {mark}  {verb.line(outcome.reply or {})}"
