"""Whether a value is what a JSON Schema (2020-12) says, for the keywords that our description of the API uses.

A keyword that is not known here is an AssertionError, so that no schema is taken for stricter than it is checked.
"""

from __future__ import annotations

import datetime
import re
from typing import Any, Callable, Dict, Iterator, Mapping
from urllib.parse import urlsplit

Schema = Mapping[str, Any]

_TYPES: Dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: not isinstance(value, bool) and isinstance(value, (int, float)) and value % 1 == 0,
    "number": lambda value: not isinstance(value, bool) and isinstance(value, (int, float)),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
_IGNORED = {"description", "example"}


def problems(value: Any, schema: Schema, root: Schema, place: str = "") -> Iterator[str]:
    """What is wrong with the value, each with where; `root` is the document that `$ref` points into."""
    for keyword, expected in schema.items():
        if keyword in _IGNORED:
            continue
        if keyword == "additionalProperties":
            assert expected is False
            unknown = set(value) - set(schema["properties"]) if isinstance(value, dict) else set()
            yield from (f"{place}.{name} is not known" for name in sorted(unknown))
            continue
        assert keyword in _KEYWORDS, f"unknown keyword {keyword}"
        yield from _KEYWORDS[keyword](value, expected, root, place or "it")


def resolve(reference: str, root: Schema) -> Any:
    """What a `$ref` within the document points to; AssertionError for one that points elsewhere or nowhere."""
    assert reference.startswith("#/"), reference
    found: Any = root
    for part in reference[2:].split("/"):
        assert part in found, f"{reference} points nowhere"
        found = found[part]
    return found


def _type(value: Any, expected: Any, root: Schema, place: str) -> Iterator[str]:
    names = [expected] if isinstance(expected, str) else expected
    if not any(_TYPES[name](value) for name in names):
        yield f"{place} is {value!r:.100}, not of type {' or '.join(names)}"


def _properties(value: Any, expected: Mapping[str, Schema], root: Schema, place: str) -> Iterator[str]:
    for name, schema in expected.items():
        if isinstance(value, dict) and name in value:
            yield from problems(value[name], schema, root, f"{place}.{name}")


def _required(value: Any, expected: Any, root: Schema, place: str) -> Iterator[str]:
    yield from (f"{place}.{name} is missing" for name in expected if isinstance(value, dict) and name not in value)


def _items(value: Any, expected: Schema, root: Schema, place: str) -> Iterator[str]:
    for index, item in enumerate(value if isinstance(value, list) else ()):
        yield from problems(item, expected, root, f"{place}[{index}]")


def _any_of(value: Any, expected: Any, root: Schema, place: str) -> Iterator[str]:
    found = [list(problems(value, schema, root, place)) for schema in expected]
    if all(found):
        yield f"{place} is none of: " + " / ".join("; ".join(each) for each in found)


def _all_of(value: Any, expected: Any, root: Schema, place: str) -> Iterator[str]:
    for schema in expected:
        yield from problems(value, schema, root, place)


def _not(value: Any, expected: Schema, root: Schema, place: str) -> Iterator[str]:
    if not list(problems(value, expected, root, place)):
        yield f"{place} is {value!r:.100}, which it must not be"


def _format(value: Any, expected: str, root: Schema, place: str) -> Iterator[str]:
    if isinstance(value, str) and not _FORMATS[expected](value):
        yield f"{place} is {value!r:.100}, no {expected}"


def _if(is_wrong: Callable[[Any, Any], bool], what: str) -> Callable[..., Iterator[str]]:
    def check(value: Any, expected: Any, root: Schema, place: str) -> Iterator[str]:
        if is_wrong(value, expected):
            yield f"{place} is {value!r:.100}, not {what} {expected!r:.200}"

    return check


def _ecma(pattern: str) -> str:
    """The pattern for Python: in ECMA-262, which JSON Schema goes by, `$` is the very end."""
    return pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern


def _is_number(value: Any) -> bool:
    return _TYPES["number"](value)


def _is_time(text: str, form: str) -> bool:
    try:
        datetime.datetime.strptime(re.sub(r"\.\d+Z$", "Z", text), form)
    except ValueError:
        return False
    return True


_FORMATS: Dict[str, Callable[[str], bool]] = {
    "binary": lambda text: True,
    "date-time": lambda text: _is_time(text, "%Y-%m-%dT%H:%M:%SZ"),
    "date": lambda text: _is_time(text, "%Y-%m-%d"),
    "uri": lambda text: bool(urlsplit(text).scheme),
}
_KEYWORDS: Dict[str, Callable[..., Iterator[str]]] = {
    "type": _type,
    "properties": _properties,
    "required": _required,
    "items": _items,
    "anyOf": _any_of,
    "allOf": _all_of,
    "not": _not,
    "format": _format,
    "$ref": lambda value, expected, root, place: problems(value, resolve(expected, root), root, place),
    "enum": _if(lambda value, expected: value not in expected, "one of"),
    "const": _if(lambda value, expected: value != expected, "equal to"),
    "pattern": _if(lambda value, expected: isinstance(value, str) and not re.search(_ecma(expected), value), "like"),
    "minLength": _if(lambda value, expected: isinstance(value, str) and len(value) < expected, "at least as long as"),
    "maxLength": _if(lambda value, expected: isinstance(value, str) and len(value) > expected, "at most as long as"),
    "minimum": _if(lambda value, expected: _is_number(value) and value < expected, "at least"),
    "maximum": _if(lambda value, expected: _is_number(value) and value > expected, "at most"),
    "exclusiveMaximum": _if(lambda value, expected: _is_number(value) and value >= expected, "less than"),
}
