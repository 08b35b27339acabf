"""The options that every verb has, and the client that they name."""

from __future__ import annotations

import argparse
from typing import NoReturn

from agent.cli.trust import find_trust
from agent.client import Client, find_local
from agent.errors import UsageError


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises UsageError, so that wrong usage reads and exits like any other error."""

    def error(self, message: str) -> NoReturn:
        hint = f"`{self.prog} --help` explains."
        raise UsageError(message[:1].upper() + message[1:] + ".", hint)


def parser(verb: str, summary: str, epilog: str) -> Parser:
    """The parser of one verb, the common options already in it."""
    made = Parser(
        prog=f"ant-host-agent.pyz {verb}",
        description=summary,
        epilog=epilog,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = made.add_argument_group("which agent (on its own host it is found by itself)")
    common.add_argument("--url", help="its address, for example http://192.0.2.7:4499; or $ANT_HOST_AGENT_URL")
    common.add_argument("--token-file", metavar="FILE", help="a file that holds the key; or $ANT_HOST_AGENT_TOKEN_FILE")
    common.add_argument("--token", help="the key itself; $ANT_HOST_AGENT_TOKEN keeps it out of sight of `ps`")
    common.add_argument("--ca", metavar="FILE", help="what to trust over https, PEM; or $ANT_HOST_AGENT_CA")
    common.add_argument("--client-cert", metavar="FILE", help="own certificate and key, PEM; or $ANT_HOST_AGENT_CLIENT_CERT")
    common.add_argument("--store", metavar="DIR", help="the store of an agent on this host; or $ANT_HOST_AGENT_STORE")
    made.add_argument("--json", action="store_true", help="print the agent's reply, or its problem document, as JSON")
    return made


def client(args: argparse.Namespace) -> Client:
    """The client that these options, the environment and this host's store name."""
    url, token = find_local(url=args.url, token=args.token, token_file=args.token_file, store=args.store)
    return Client(url, token, tls=find_trust(url, args.ca, args.client_cert, args.store))
