"""The artifact's `.env`: NAME=value lines. No message ever shows a value: it may be a secret."""

from __future__ import annotations

import re
from typing import Dict, Tuple

from agent.errors import ArtifactFault

_LINE = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(.*)", re.DOTALL)
_COMMENT_AFTER = re.compile(r"[ \t]*(#.*)?")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "$": "$"}


def parse(data: bytes) -> Dict[str, str]:
    """The variables of a `.env`; of one set twice, the last. ArtifactFault names the line that is none.

    `export` may stand before a name; `#` starts a comment on a line of its own or after white
    space. Single quotes keep all as it is, double quotes know \\n \\t \\r \\" \\\\ and \\$. Nothing is
    interpolated, and a value ends with its line.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad(data[: error.start].count(b"\n") + 1, "is not UTF-8") from None
    variables: Dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip(" \t\r")
        if line and not line.startswith("#"):
            name, value = _parse_line(line, number)
            variables[name] = value
    return variables


def _parse_line(line: str, number: int) -> Tuple[str, str]:
    match = _LINE.fullmatch(line)
    if not match:
        raise _bad(number, "is not NAME=value")
    if "\0" in line:
        raise _bad(number, "has a NUL character")
    name, text = match.groups()
    if text[:1] in ("'", '"'):
        return name, _unquote(text, number)
    return name, re.split(r"(?:^|[ \t]+)#", text, maxsplit=1)[0]


def _unquote(text: str, number: int) -> str:
    quote, value, at = text[0], [], 1
    while at < len(text) and text[at] != quote:
        character = text[at]
        if quote == '"' and character == "\\" and text[at + 1 : at + 2] in _ESCAPES:
            at += 1
            character = _ESCAPES[text[at]]
        value.append(character)
        at += 1
    if at >= len(text):
        raise _bad(number, "has a quote that is not closed")
    if not _COMMENT_AFTER.fullmatch(text, at + 1):
        raise _bad(number, "goes on after its closing quote")
    return "".join(value)


def _bad(number: int, reason: str) -> ArtifactFault:
    return ArtifactFault(f".env: line {number} {reason}.", "Write NAME=value lines; quote values with '#'.")
