"""The verbs of the command line: one table, from which help and dispatch both come."""

from __future__ import annotations

import argparse
import difflib
from dataclasses import dataclass
from typing import Callable, Dict, Sequence

from agent.cli import kill, launch, logs, simple, status, stop
from agent.cli.options import parser
from agent.cli.printing import print_json
from agent.errors import AgentError, UsageError


@dataclass(frozen=True)
class Verb:
    """A word of the command line: what it does, takes and runs."""

    summary: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    epilog: str = ""


VERBS: Dict[str, Verb] = {
    "ping": Verb("Ask whether the agent answers.", simple.nothing, simple.ping),
    "launch": Verb("Launch a project from an artifact or a folder.", launch.arguments, launch.run, launch.EPILOG),
    "status": Verb("Show what the projects are doing, and why.", status.arguments, status.run, status.EPILOG),
    "logs": Verb("Fetch a project's logs.", logs.arguments, logs.run, logs.EPILOG),
    "kill": Verb("Kill a project, its whole process tree.", kill.arguments, kill.run, kill.EPILOG),
    "restart": Verb("Start a project's current release again.", simple.project, simple.restart),
    "rollback": Verb("Launch an older release of a project.", simple.project_and_version, simple.rollback),
    "stop": Verb("Stop the agent on this host, not its projects.", stop.arguments, stop.run, stop.EPILOG),
    "version": Verb("Print this file's version.", simple.nothing, simple.version),
}

SERVE_HELP = """\
usage: ant-host-agent.pyz [serve] [--listen HOST:PORT] [--store DIR] [--token-file FILE]
                          [--no-auth] [--allow-plaintext]

Run the agent of this host, in the foreground: it launches, supervises, logs and kills projects.
SIGTERM or Ctrl-C ends the agent; its projects run on, and the next start finds them again.

  --listen HOST:PORT   where to answer (default 127.0.0.1:4499; IPv6 as [::1]:4499)
  --store DIR          where everything is kept (default /var/lib/ant-host-agent for root,
                       else $XDG_STATE_HOME/ant-host-agent or ~/.local/state/ant-host-agent)
  --token-file FILE    the file with the admin key, made at the first start (default DIR/token)
  --no-auth            ask for no key; on a loopback address only
  --allow-plaintext    permit a --listen address that other machines reach, without TLS

This release terminates no TLS itself (--tls-cert, --tls-key and --tls-client-ca are refused): for
other machines put nginx or haproxy in front and stay on 127.0.0.1.
Each option can also be set as ANT_HOST_AGENT_<NAME>, for example ANT_HOST_AGENT_LISTEN; a flag wins.
"""

_EXIT_CODES = """\
Exit codes: 0 done, 1 the agent failed, 2 wrong usage, 3 another agent has this store, 4 refused,
5 the artifact is at fault, 6 the host is busy or full, 7 the agent can't be reached.
"""


def run(verb: str, argv: Sequence[str]) -> int:
    """Run one verb with its words; `help` and a `serve` that asks for help print it. AgentError for what fails."""
    if verb == "help":
        print(overview(), end="")
        return 0
    if verb == "serve":
        print(SERVE_HELP, end="")
        return 0
    if verb not in VERBS:
        raise _unknown(verb)
    chosen = VERBS[verb]
    parsing = parser(verb, chosen.summary, chosen.epilog)
    chosen.arguments(parsing)
    try:
        args = parsing.parse_args(list(argv))
    except SystemExit:  # --help has been printed
        return 0
    try:
        return chosen.run(args)
    except AgentError as error:
        if not args.json:
            raise
        print_json(error.to_problem())
        return error.exit_code


def overview() -> str:
    """The help of the whole file."""
    width = max(map(len, VERBS)) + 2
    lines = [f"  {name:<{width}}{verb.summary}" for name, verb in {"serve": _SERVE, **VERBS}.items()]
    return "\n".join((
        "usage: ant-host-agent.pyz [VERB] [OPTION]…", "",
        "Launches, supervises, logs and kills the projects of one host.", "", *lines, "",
        "`ant-host-agent.pyz VERB --help` explains one. Without a verb it serves.",
        "Every verb takes --url, --token-file, --token, --store and --json; on the agent's host none is needed.", "",
        _EXIT_CODES,
    ))  # fmt: skip


_SERVE = Verb("Run the agent of this host (the default).", simple.nothing, simple.version)


def _unknown(verb: str) -> UsageError:
    near = difflib.get_close_matches(verb, ("serve", *VERBS), 1)
    hint = f"Did you mean `{near[0]}`?" if near else f"The verbs are serve, {', '.join(VERBS)}."
    return UsageError(f"{verb!r} is not a verb of ant-host-agent.", hint)
