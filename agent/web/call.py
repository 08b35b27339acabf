"""One call, read strictly: what is malformed, missing, unknown or there twice is refused by name."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Tuple
from urllib.parse import parse_qsl

from agent.errors import MalformedRequest
from agent.web.caller import Caller
from agent.web.services import Services

JSON_BYTES = 64 * 1024
_GRACE_LIMIT_SECONDS = 86400.0


@dataclass(frozen=True)
class Field:
    """How one value is read: from JSON by `read`, from a query by `from_text` first."""

    read: Callable[[object], Any]
    from_text: Callable[[str], object] = str


Fields = Mapping[str, Field]


@dataclass
class Call:
    """What a handler gets. `values` holds the parsed values of path, query and JSON body together."""

    services: Services
    environ: Dict[str, Any]
    values: Dict[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> Caller:
        """Whose key the call came with, and what that permits."""
        caller: Caller = self.environ["ant.caller"]
        return caller

    @property
    def caller(self) -> str:
        """Who calls and from which address, for people: `ci from 192.0.2.7`."""
        return str(self.identity)


def read_query(text: str, fields: Fields) -> Dict[str, Any]:
    """The parameters of a query string, each at most once. MalformedRequest names the one at fault."""
    values: Dict[str, Any] = {}
    for name, value in _pairs(text):
        known = _known(name, fields, "query parameter")
        if name in values:
            raise MalformedRequest(f"{name}: the query parameter is there more than once.", "Send it once.")
        values[name] = known.read(known.from_text(value))
    return values


def _pairs(text: str) -> List[Tuple[str, str]]:
    if not text:
        return []
    try:
        return parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=100)
    except ValueError as error:
        raise MalformedRequest(f"The query string is malformed: {error}.", "Write name=value&name=value.") from None


def read_json(body: bytes, fields: Fields) -> Dict[str, Any]:
    """The members of a JSON object, each at most once; no body at all is an object without members."""
    document = parse_object(body) if body else {}
    return {name: _known(name, fields, "field").read(value) for name, value in document.items()}


def parse_object(body: bytes) -> Dict[str, Any]:
    """Strict JSON (RFC 8259): an object, no name twice, no NaN or Infinity."""
    try:
        document = json.loads(body, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedRequest(f"The body is not valid JSON: {error}.", 'Send an object such as {"project": "web"}.') from None
    if not isinstance(document, dict):
        raise MalformedRequest("The body is valid JSON but no object.", 'Send an object such as {"project": "web"}.')
    return document


def _unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    document: Dict[str, Any] = {}
    for name, value in pairs:
        if name in document:
            raise MalformedRequest(f"{name[:80]}: the field is there more than once.", "Send it once.")
        document[name] = value
    return document


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


def _known(name: str, fields: Fields, what: str) -> Field:
    if name not in fields:
        known = ", ".join(sorted(fields)) or "none"
        raise MalformedRequest(f"{name[:80]!r}: this call has no such {what}.", f"It knows: {known}.")
    return fields[name]


def require(values: Mapping[str, Any], names: Tuple[str, ...], where: str) -> None:
    """MalformedRequest naming the first value that is missing."""
    for name in names:
        if name not in values:
            raise MalformedRequest(f"{name}: it is missing.", f"Send {name} {where}.")


def seconds(name: str) -> Field:
    """A duration from 0 to a day."""

    def read(value: object) -> float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not 0 <= value <= _GRACE_LIMIT_SECONDS:  # type: ignore[operator]
            raise MalformedRequest(
                f"{name}: {value!r:.40} is no number of seconds.", f"Send a number from 0 to {_GRACE_LIMIT_SECONDS:g}."
            )
        return float(value)  # type: ignore[arg-type]

    return Field(read, _number)


def _number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


def flag(name: str) -> Field:
    """true or false."""

    def read(value: object) -> bool:
        if not isinstance(value, bool):
            raise MalformedRequest(f"{name}: {value!r:.40} is neither true nor false.", "Send true or false.")
        return value

    return Field(read, lambda text: {"true": True, "false": False}.get(text, text))


def text(name: str) -> Field:
    """Any text."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise MalformedRequest(f"{name}: {value!r:.40} is not text.", "Send a string.")
        return value

    return Field(read)


def json_object(name: str) -> Field:
    """An object, handed on as the bytes of its JSON."""

    def read(value: object) -> bytes:
        if not isinstance(value, dict):
            raise MalformedRequest(f"{name}: {value!r:.40} is not an object.", "Send the manifest as a JSON object.")
        return json.dumps(value).encode()

    return Field(read)
