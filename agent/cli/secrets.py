"""`secrets`: list, set and delete a project's secrets. A value comes from stdin or a prompt, never from a word of the command
line, which everybody on the host can read."""

from __future__ import annotations

import argparse
import getpass
import sys

from agent.cli.options import client
from agent.cli.printing import print_json, printable
from agent.errors import UsageError

EPILOG = """\
The value is all of stdin, as it is (a newline at its end included), or asked for on a terminal. The
project finds it in the file $SECRETS_DIR/NAME, which its own user alone can read; nobody gets it
back from the agent. A project may have its secrets before it is launched.

  printf %s "$PASSWORD" | ant-host-agent.pyz secrets set web db_password
  ant-host-agent.pyz secrets set web tls.key <tls.key
  ant-host-agent.pyz secrets list web
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `secrets` takes."""
    parser.add_argument("action", choices=("list", "set", "delete"))
    parser.add_argument("project", metavar="PROJECT")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the secret's name, for example db_password")


def run(args: argparse.Namespace) -> int:
    """Do one of the three."""
    if (args.name is None) != (args.action == "list"):
        takes = "no NAME" if args.action == "list" else "a NAME"
        raise UsageError(f"`secrets {args.action}` takes {takes}.", "`secrets --help` explains.")
    agent = client(args)
    if args.action == "list":
        reply = agent.secrets(args.project)
        lines = [printable(name) for name in reply.get("secrets", ())]
    elif args.action == "set":
        reply = agent.set_secret(args.project, args.name, _value(args.name))
        lines = [f"{args.project} has {args.name}; what runs already sees it, too."]
    else:
        reply = agent.delete_secret(args.project, args.name)
        lines = [f"{args.project} has no {args.name} any more.", *map(printable, reply.get("warnings") or ())]
    if args.json:
        print_json(reply)
    else:
        print("".join(f"{line}\n" for line in lines), end="")
    return 0


def _value(name: str) -> bytes:
    if sys.stdin.isatty():
        value = getpass.getpass(f"{name}: ").encode()
    else:
        value = sys.stdin.buffer.read()
    if not value:
        raise UsageError("The value is empty.", "Give it on stdin: printf %s VALUE | ant-host-agent.pyz secrets set PROJECT NAME")
    return value
