"""One call, read strictly: what is malformed, missing, unknown or there twice is refused by name."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Tuple
from urllib.parse import parse_qsl

from agent.errors import MalformedRequest
from agent.model import (
    PROJECT_PATTERN,
    SECRET_PATTERN,
    VERSION_PATTERN,
    parse_digest,
    parse_project,
    parse_secret_name,
    parse_version,
)
from agent.web.caller import Caller
from agent.web.services import Services

JSON_BYTES = 64 * 1024
_GRACE_LIMIT_SECONDS = 86400
#: A number as JSON writes it, without a sign: float() would also read "1_0", " 1" and "infinity".
_NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", re.ASCII)

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Field:
    """How one value is read: from JSON by `read`, from a query by `from_text` first.

    `schema`: what `read` takes, as JSON Schema (2020-12) for the API's description.
    """

    read: Callable[[object], Any]
    schema: Schema
    from_text: Callable[[str], object] = str


Fields = Mapping[str, Field]

PROJECT = Field(parse_project, {"type": "string", "pattern": f"^{PROJECT_PATTERN}$"})
VERSION = Field(parse_version, {"type": "string", "pattern": f"^{VERSION_PATTERN}$", "not": {"enum": [".", ".."]}})
SECRET = Field(parse_secret_name, {"type": "string", "pattern": f"^{SECRET_PATTERN}$"})
DIGEST = Field(parse_digest, {"type": "string", "pattern": "^[0-9A-Fa-f]{64}$"})


def _read_files(value: object) -> List[Tuple[int, str]]:
    """`[{"sha256", "size"}, …]` as (size, SHA-256)."""
    hint = 'Send [{"sha256": "…", "size": 1234}, …].'
    if not isinstance(value, list):
        raise MalformedRequest("files: it is no list.", hint)
    for index, entry in enumerate(value):
        size = entry.get("size") if isinstance(entry, dict) and set(entry) == {"sha256", "size"} else None
        is_whole = type(size) is int or (isinstance(size, float) and size.is_integer())  # JSON's 3.0 is whole, too
        if size is None or not is_whole or size < 0:
            raise MalformedRequest(f"files[{index}]: it is no digest with a size.", hint)
    return [(int(entry["size"]), parse_digest(entry["sha256"])) for entry in value]


_FILE_SCHEMA = {
    "type": "object", "properties": {"sha256": DIGEST.schema, "size": {"type": "integer", "minimum": 0}},
    "required": ["sha256", "size"], "additionalProperties": False,
}  # fmt: skip
FILES = Field(_read_files, {"type": "array", "items": _FILE_SCHEMA})


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
    """Strict JSON (RFC 8259): an object in UTF-8, no name twice, no NaN or Infinity."""
    try:
        document = json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedRequest(f"The body is not valid JSON: {error}.", 'Send an object such as {"project": "web"}.') from None
    if not isinstance(document, dict):
        raise MalformedRequest("The body is valid JSON but no object.", 'Send an object such as {"project": "web"}.')
    return document


def parse_list(text: str) -> List[Any]:
    """Strict JSON: a list."""
    try:
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedRequest(f"left_out: it is not valid JSON: {error}.", "Send a list.") from None
    if not isinstance(found, list):
        raise MalformedRequest("left_out: it is valid JSON but no list.", "Send a list.")
    return found


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
                f"{name}: {value!r:.40} is no number of seconds.", f"Send a number from 0 to {_GRACE_LIMIT_SECONDS}."
            )
        return float(value)  # type: ignore[arg-type]

    return Field(read, {"type": "number", "minimum": 0, "maximum": _GRACE_LIMIT_SECONDS}, number)


def number(text: str) -> object:
    """The number that a query's value is, else the text as it is, for `read` to refuse."""
    return float(text) if _NUMBER.fullmatch(text) else text


def flag(name: str) -> Field:
    """true or false."""

    def read(value: object) -> bool:
        if not isinstance(value, bool):
            raise MalformedRequest(f"{name}: {value!r:.40} is neither true nor false.", "Send true or false.")
        return value

    return Field(read, {"type": "boolean"}, lambda text: {"true": True, "false": False}.get(text, text))


def text(name: str, **schema: Any) -> Field:
    """Any text; what else is to be said of it is `schema`'s, and checked elsewhere."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise MalformedRequest(f"{name}: {value!r:.40} is not text.", "Send a string.")
        return value

    return Field(read, {"type": "string", **schema})


def json_object(name: str) -> Field:
    """An object, handed on as the bytes of its JSON."""

    def read(value: object) -> bytes:
        if not isinstance(value, dict):
            raise MalformedRequest(f"{name}: {value!r:.40} is not an object.", "Send the manifest as a JSON object.")
        return json.dumps(value).encode()

    return Field(read, {"type": "object"})
