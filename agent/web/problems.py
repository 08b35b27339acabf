"""Every failure as `application/problem+json` (RFC 9457): foreign errors are mapped here and nowhere else."""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Dict, List, Tuple

from agent import __version__
from agent.errors import (
    EXIT_USAGE,
    AgentError,
    Busy,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    StorageFull,
    TooLarge,
)
from agent.store import usage
from agent.store.layout import StoreLayout

SERVER = f"ant-host-agent/{__version__}"
CONTENT_TYPE = "application/problem+json"

#: From so many objects on they are sent a line each.
_MANY = 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN)
_NO_THREAD = "can't start new thread"  # what threading says when pthread_create(3) fails


class RequestTimeout(AgentError):
    """408: the request's head did not arrive in time."""

    kind, title, status, exit_code = "request-timeout", "The request came too slowly", 408, EXIT_USAGE


class HeadTooLarge(AgentError):
    """431: the request's head is larger than any of our calls needs."""

    kind, title, status, exit_code = "head-too-large", "The request's head is too large", 431, EXIT_USAGE


class EncodingNotImplemented(AgentError):
    """501: a transfer coding other than chunked (RFC 9112, section 6.1)."""

    kind, title, status, exit_code = "not-implemented", "Not implemented", 501, EXIT_USAGE


class UnknownVersion(AgentError):
    """505: neither HTTP/1.0 nor HTTP/1.1."""

    kind, title, status, exit_code = "unknown-version", "Unknown version of HTTP", 505, EXIT_USAGE


#: The kinds of this module.
KINDS = (RequestTimeout, HeadTooLarge, EncodingNotImplemented, UnknownVersion)
_HINT = "A client or a proxy on the way made the request wrong; curl -v shows what it sends."


_COMPACT = json.JSONEncoder(default=str)


def status_line(status: int) -> str:
    """`404 Not Found`."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Problem"


def to_bytes(document: Dict[str, Any]) -> bytes:
    """A JSON document as it is sent, with a newline at its end; of a list of many objects each is a line of its own.

    (The encoder that indents is Python's own and takes 70 µs for a project's status; the compact one is C.)
    """
    name, members = next(iter(document.items()), ("", None))
    if len(document) == 1 and isinstance(members, list) and len(members) > _MANY:
        lines = ",\n".join(map(_COMPACT.encode, members))
        return f"{{{json.dumps(name)}: [\n{lines}\n]}}\n".encode()
    return json.dumps(document, indent=1, default=str).encode() + b"\n"


def render(error: AgentError) -> Tuple[str, List[Tuple[str, str]], bytes]:
    """Status line, headers and body of the answer; the length and the connection's headers are the server's part."""
    headers = [("Content-Type", CONTENT_TYPE), ("Cache-Control", "no-store"), *error.headers.items()]
    return status_line(error.status), headers, to_bytes(error.to_problem())


def response(error: AgentError) -> bytes:
    """A whole HTTP/1.1 response that ends its connection, for where there is no server yet."""
    status, headers, body = render(error)
    headers += [
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
        ("Date", formatdate(usegmt=True)),
        ("Server", SERVER),
    ]
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1", "replace") + body


def from_exception(error: BaseException) -> AgentError:
    """What to tell the caller. Only what nobody foresaw is an incident."""
    if isinstance(error, AgentError):
        return error
    if isinstance(error, OSError) and error.errno in _FULL:
        return StorageFull("The disk is full or a quota is reached.")
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return StorageFull("The store's disk is read-only.", "See `dmesg` on the host for the reason, repair it, and remount it.")
    if isinstance(error, OSError) and error.errno == errno.EIO:
        return AgentError(
            f"The store's disk failed{f' at {error.filename}' if error.filename else ''}: {error.strerror}.",
            "`dmesg` on the host tells more. What runs goes on running.",
        )
    if isinstance(error, OSError) and error.errno in _EXHAUSTED:
        return Busy(f"The host has run out of a resource: {error.strerror}.", "Call again in a few seconds.")
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and str(error) == _NO_THREAD):
        what = "memory" if isinstance(error, MemoryError) else "threads"
        return Busy(f"The host has run out of a resource: {what}.", "Call again in a few seconds.")
    return incident(error)


def advise(refusal: AgentError, store: StoreLayout) -> AgentError:
    """The same; one for a full disk says what to free, unless it has an own advice."""
    if isinstance(refusal, StorageFull) and refusal.hint is None:
        largest = usage.largest(store)
        refusal.hint = usage.advice(largest)
        refusal.members["largest"] = largest
    return refusal


def incident(error: BaseException) -> AgentError:
    """500: the traceback goes to the agent's own log under an id, and the caller gets the id only."""
    identity = os.urandom(6).hex()
    lines = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    print(f"incident {identity}\n{lines}", file=sys.stderr, end="", flush=True)
    return AgentError(
        "Something happened that the agent does not know how to handle.",
        f"Look for 'incident {identity}' in the logs of project ant-host-agent on the host.",
        incident=identity,
    )


def from_server(status: int, reason: str) -> AgentError:
    """An error that Waitress or Bottle found: by its status, without their texts' mark-up."""
    reason = reason.strip()
    if status == 404:
        return NotFound("There is nothing at this path.", "README lists the calls.")
    if status == 405:
        return MethodNotAllowed("This path does not take this method.", "README lists the calls.")
    if status == 413:
        return TooLarge("The body is larger than this call takes.", "Send a smaller one.")
    if status == 431:
        return HeadTooLarge("The request's head is larger than 64 KiB.", "Send fewer and shorter headers.")
    if status == 501:
        return EncodingNotImplemented(reason, "Send the body with a Content-Length, or with Transfer-Encoding: chunked.")
    if 400 <= status < 500:
        return MalformedRequest(f"The request is not valid HTTP: {reason.rstrip('.')}.", _HINT)
    return AgentError("The request failed inside the agent.", "The reason is in the logs of project ant-host-agent.")
