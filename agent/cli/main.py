"""The verbs of the command line: one table, from which help and dispatch both come."""

from __future__ import annotations

import argparse
import difflib
from dataclasses import dataclass
from typing import Callable, Dict, Optional, Sequence

from agent.cli import (
    completion,
    doctor,
    events,
    hosts,
    install,
    kill,
    launch,
    logs,
    secrets,
    simple,
    status,
    stop,
    tls_init,
    token,
    why,
)
from agent.cli.advice import advise
from agent.cli.hosts import OnHosts
from agent.cli.options import parser
from agent.cli.printing import launch_sentence, print_json
from agent.errors import AgentError, UsageError


@dataclass(frozen=True)
class Verb:
    """A word of the command line: what it does, takes and runs; `on_hosts`, if it can be run on many at once."""

    summary: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    epilog: str = ""
    on_hosts: Optional[OnHosts] = None


def parser_of(verb: str) -> argparse.ArgumentParser:
    """The parser of one verb, complete."""
    chosen = VERBS[verb]
    made = parser(verb, chosen.summary, chosen.epilog)
    chosen.arguments(made)
    if chosen.on_hosts is not None:
        hosts.add_arguments(made)
    return made


def _complete(args: argparse.Namespace) -> int:
    print(completion.script(args.shell, {"serve": None, **{verb: parser_of(verb) for verb in VERBS}}), end="")
    return 0


VERBS: Dict[str, Verb] = {
    "ping": Verb("Ask whether the agent answers.", simple.nothing, simple.ping, "", simple.PING),
    "launch": Verb(
        "Launch a project from an artifact or a folder.", launch.arguments, launch.run, launch.EPILOG,
        OnHosts(launch.ask, launch_sentence, launch.prepared),
    ),
    "status": Verb("Show what the projects are doing, and why.", status.arguments, status.run, status.EPILOG, status.ON_HOSTS),
    "why": Verb("Explain one project: what happened, why, and what happens next.", why.arguments, why.run, why.EPILOG),
    "logs": Verb("Fetch a project's logs.", logs.arguments, logs.run, logs.EPILOG),
    "events": Verb("Follow what happens on the host.", events.arguments, events.run, events.EPILOG),
    "kill": Verb("Kill a project, its whole process tree.", kill.arguments, kill.run, kill.EPILOG, kill.ON_HOSTS),
    "restart": Verb("Start a project's current release again.", simple.project, simple.restart, "", simple.RESTART),
    "rollback": Verb("Launch an older release of a project.", simple.project_and_version, simple.rollback, "", simple.ROLLBACK),
    "secrets": Verb("List, set or delete the secrets of a project.", secrets.arguments, secrets.run, secrets.EPILOG),
    "token": Verb("Add, list or revoke keys, on the agent's host.", token.arguments, token.run, token.EPILOG),
    "tls-init": Verb("Make a TLS certificate for this host.", tls_init.arguments, tls_init.run, tls_init.EPILOG),
    "install": Verb("Have this host run the agent from its boot on.", install.arguments, install.run, install.EPILOG),
    "uninstall": Verb(
        "Undo `install`.", install.uninstall_arguments, install.run_uninstall, install.UNINSTALL_EPILOG
    ),
    "doctor": Verb("Look at this host, try it, and say what it can promise.", doctor.arguments, doctor.run, doctor.EPILOG),
    "stop": Verb("Stop the agent on this host, not its projects.", stop.arguments, stop.run, stop.EPILOG),
    "completion": Verb("Print what makes bash or zsh complete these verbs.", completion.arguments, _complete, completion.EPILOG),
    "version": Verb("Print this file's version.", simple.nothing, simple.version),
}  # fmt: skip

SERVE_HELP = """\
usage: ant-host-agent.pyz [serve] [--listen HOST:PORT] [--store DIR] [--token-file FILE]
                          [--no-auth] [--allow-plaintext] [--allow-host NAME[,NAME]]
                          [--tls-cert FILE --tls-key FILE [--tls-client-ca FILE]]
                          [--signatures off|require] [--log-budget BYTES]

Run the agent of this host, in the foreground: it launches, supervises, logs and kills projects.
SIGTERM or Ctrl-C ends the agent; its projects run on, and the next start finds them again.

  --listen HOST:PORT   where to answer (default 127.0.0.1:4499; IPv6 as [::1]:4499)
  --store DIR          where everything is kept (default /var/lib/ant-host-agent for root,
                       else $XDG_STATE_HOME/ant-host-agent or ~/.local/state/ant-host-agent)
  --token-file FILE    the file with the admin key, made at the first start (default DIR/token)
  --no-auth            ask for no key; on a loopback address only
  --allow-plaintext    permit a --listen address that other machines reach, without TLS
  --allow-host NAME    a further name or address under which it may be called, as behind a proxy;
                       its own address, localhost and the host's name always count
  --signatures POLICY  require: launch only what a key of DIR/allowed_signers has signed (default off)
  --log-budget BYTES   what all logs together may take, for example 20G (default: a tenth of the file
                       system, at most 10 GiB); whoever has most gives its oldest segment first

  --tls-cert FILE      speak TLS (1.2 or later) with this certificate and its chain, PEM, …
  --tls-key FILE       … and its key, PEM without a password; `tls-init` makes a pair
  --tls-client-ca FILE let in only clients with a certificate of this authority, PEM

The files of TLS are read again on SIGHUP. nginx or haproxy in front do as well.
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
    try:
        args = parser_of(verb).parse_args(list(argv))
    except SystemExit:  # --help has been printed
        return 0
    try:
        many = hosts.named(args)
        return hosts.run(chosen.on_hosts, many, args) if many and chosen.on_hosts else chosen.run(args)
    except AgentError as error:
        if not args.json:
            advise(error)
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
