"""Ping told from all other requests by its bytes alone, and its answer: what the front thread can do without Waitress."""

from __future__ import annotations

import re
from email.utils import formatdate
from typing import Optional

from agent.web import problems

# A whole head that is surely a ping: every line a plain header field. Anything else is Waitress's to judge.
_PING = re.compile(
    rb"(?P<method>GET|HEAD|POST) /ping(?:\?[!-~]*)? HTTP/1\.(?P<minor>[01])\r\n"
    rb"(?P<fields>(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*\r\n)*)\r\n"
)
_OTHER = re.compile(rb"(?:^|\r\n)(?:transfer-encoding|expect|upgrade):", re.IGNORECASE)
_LENGTH = re.compile(rb"(?:^|\r\n)content-length:([^\r]*)", re.IGNORECASE)
_CLOSE = re.compile(rb"(?:^|\r\n)connection:[^\r]*\bclose\b", re.IGNORECASE)


def read(head: bytes) -> Optional[re.Match[bytes]]:
    """The head taken apart if it is a ping without a body, without any doubt."""
    match = _PING.fullmatch(head)
    if match is None or _OTHER.search(match["fields"]):
        return None
    lengths = _LENGTH.findall(match["fields"])
    return None if any(length.strip(b" \t").strip(b"0") or not length.strip(b" \t") for length in lengths) else match


def wants_close(ping: re.Match[bytes]) -> bool:
    """Whether the client asked for the end of the connection (RFC 9112, 9.3)."""
    return ping["minor"] == b"0" or _CLOSE.search(ping["fields"]) is not None


def reply(ping: re.Match[bytes], closing: bool) -> bytes:
    """The whole answer; `closing` says that it is the connection's last."""
    return (
        b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\n"
        + (b"Connection: close\r\n" if closing else b"")
        + b"Content-Length: 4\r\nContent-Type: text/plain\r\nDate: %s\r\n" % formatdate(usegmt=True).encode()
        + b"Server: %s\r\n\r\n" % problems.SERVER.encode()
        + (b"" if ping["method"] == b"HEAD" else b"pong")
    )
