"""A part of an answer: `Range` and `If-Range` (RFC 9110, section 14)."""

from __future__ import annotations

import re
from typing import Any, Dict, Mapping, Optional, Tuple

from agent.errors import EXIT_USAGE, AgentError

_ONE_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


class RangeNotSatisfiable(AgentError):
    """416: the answer has no such bytes."""

    kind, title, status, exit_code = "range-not-satisfiable", "There are no such bytes", 416, EXIT_USAGE

    @property
    def headers(self) -> Dict[str, str]:
        return {"Content-Range": f"bytes */{self.members['size_bytes']}"}


def wanted_etag(environ: Mapping[str, Any]) -> str:
    """The entity tag of the answer that a part is wanted of, without its quotes; "" if any will do."""
    return str(environ.get("HTTP_IF_RANGE", "")).strip().strip('"') if "HTTP_RANGE" in environ else ""


def wanted_range(environ: Mapping[str, Any], size: int, etag: str) -> Optional[Tuple[int, int]]:
    """First byte and the one after the last; None for all of it: nothing was said, or in a way that need not be understood.

    RangeNotSatisfiable when the answer has no such bytes.
    """
    match = _ONE_RANGE.fullmatch(str(environ.get("HTTP_RANGE", "")).replace(" ", ""))
    if match is None or environ["REQUEST_METHOD"] not in ("GET", "POST") or wanted_etag(environ) not in ("", etag):
        return None
    first, last = match[1][:20], match[2][:20]
    if not first and not last:
        return None
    if not first:
        begin, end = max(0, size - int(last)), size
    else:
        begin, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < begin:
            return None
    if begin >= size or begin >= end:
        raise RangeNotSatisfiable(f"Range: {match[0][:60]} is not within {size} bytes.", "Begin again.", size_bytes=size)
    return begin, end
