"""For whom a call was meant and which page sent it: the defence against rebound names and foreign web pages.

A web page that a user of this network looks at can send requests to any address, also under a name of its own
that it lets point here (DNS rebinding). It can forge neither Host nor Origin.
"""

from __future__ import annotations

import re
import socket
from typing import Mapping, Sequence

from agent.errors import Forbidden, MalformedRequest, Misdirected

_HOST = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]{2,45})\]|(?P<name>[a-z0-9_](?:[a-z0-9._-]{0,253}[a-z0-9_])?)\.?)(?::\d{1,5})?")
_SCHEMES = ("http://", "https://")


class Origins:
    """The names that this agent answers to: `names`, localhost, this machine's name, the address that was connected to."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        own = socket.gethostname().lower()
        short = own.partition(".")[0]
        self._names = {"localhost", own, short, f"{short}.local", *map(normal, names)}

    def require(self, version: str, headers: Mapping[str, str], netloc: str, local_address: str) -> None:
        """Check a request's Host, its absolute form (`netloc`, or "") and its Origin.

        MalformedRequest without a Host (RFC 9112, 3.2), Misdirected for another's, Forbidden for another's page.
        """
        host = headers.get("HOST")
        if host is None and version != "1.0":
            raise MalformedRequest("Host: the header is missing.", "HTTP/1.1 requires it.")
        for given in filter(None, (host, netloc)):
            self._require_ours(given.lower(), local_address)
        origin = headers.get("ORIGIN")
        if origin is not None and (not host or origin.lower() not in [scheme + host.lower() for scheme in _SCHEMES]):
            raise Forbidden(
                f"Origin: {origin[:80]!r} is another site, and only this agent's own pages may call it.",
                "Call from a program instead of a web page. There is no CORS.",
            )  # fmt: skip

    def _require_ours(self, host: str, local_address: str) -> None:
        match = _HOST.fullmatch(host)
        if match is None or normal(match["v6"] or match["name"]) not in {*self._names, normal(local_address)}:
            raise Misdirected(
                f"Host: {host[:80]!r} is no name of this agent.",
                "Call it by its address or the host's name; others are allowed with 'serve --allow-host NAME'.",
            )  # fmt: skip


def normal(host: str) -> str:
    """One spelling for each address: no zone, IPv4 within IPv6 as IPv4, IPv6 compressed; names in lower case."""
    host = host.partition("%")[0].lower()
    if ":" not in host:
        return host
    try:
        packed = socket.inet_pton(socket.AF_INET6, host)
    except OSError:
        return host
    if packed[:12] == bytes(10) + b"\xff\xff":
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed)
