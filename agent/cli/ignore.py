"""What a folder's `.gitignore` files leave out, by gitignore(5)'s rules and without git.

Known are: comments, negation, `dir/`, anchored patterns, `*`, `?`, `[…]`, `**` and backslashes, in the folder's own
`.gitignore` and in those below it. Not looked at: files above the folder (so that `launch ./dist` takes all of a
`dist` that its repository ignores), `.git/info/exclude`, git's global settings, and what git tracks in spite of a pattern.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import List, Pattern, Tuple

from agent.errors import UsageError

NAME = ".gitignore"


@dataclass(frozen=True)
class Rule:
    """One line of a `.gitignore`. `expression` fits a path relative to the packed folder."""

    expression: Pattern[str]
    is_negated: bool
    is_for_folders: bool


Rules = Tuple[Rule, ...]


def read(folder: str, below: str) -> Rules:
    """The rules of the `.gitignore` in `folder`/`below`; none when there is no such file."""
    path = os.path.join(folder, below, NAME)
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().split("\n")
    except (FileNotFoundError, IsADirectoryError):
        return ()
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.", "Make it readable, or pack with --all.") from error
    rules = (parse(line, below) for line in lines)
    return tuple(rule for rule in rules if rule is not None)


def parse(line: str, below: str = "") -> Rule | None:
    """The rule in one line of the `.gitignore` in the folder `below`; None for a comment, a blank or a broken line."""
    pattern = _without_trailing_spaces(line.rstrip("\r"))
    if not pattern or pattern.startswith("#"):
        return None
    is_negated = pattern.startswith("!")
    pattern = pattern[is_negated:]
    is_for_folders = pattern.endswith("/")
    pattern = pattern[:-1] if is_for_folders else pattern
    is_anchored = "/" in pattern
    body = _expression(pattern[1:] if pattern.startswith("/") else pattern)
    if not body:
        return None
    prefix = re.escape(below) + "/" if below else ""
    try:
        expression = re.compile(prefix + ("" if is_anchored else "(?:.*/)?") + body, re.DOTALL)
    except re.error:  # a range that runs backwards, for example: git lets it match nothing
        return None
    return Rule(expression, is_negated, is_for_folders)


def is_ignored(rules: Rules, name: str, is_folder: bool) -> bool:
    """Whether the last rule that fits says so. Of a folder that is left out, nothing below is asked for."""
    for rule in reversed(rules):
        if (is_folder or not rule.is_for_folders) and rule.expression.fullmatch(name):
            return not rule.is_negated
    return False


def _without_trailing_spaces(line: str) -> str:
    stripped = line.rstrip(" ")
    escapes = len(stripped) - len(stripped.rstrip("\\"))
    return stripped + " " if escapes % 2 and len(stripped) < len(line) else stripped


#: A piece of a pattern and what it means; the first that fits counts.
_PIECES = re.compile(
    r"(?P<deep>(?<![^/])\*\*/)|(?P<all>(?<=/)\*\*$)|(?P<star>\*+)|(?P<one>\?)|(?P<set>\[)|\\(?P<escaped>.)|(?P<plain>[^\\])"
)
_MEANINGS = {"deep": "(?:.*/)?", "all": ".+", "star": "[^/]*", "one": "[^/]"}


def _expression(pattern: str) -> str:
    parts: List[str] = []
    at = 0
    while at < len(pattern):
        match = _PIECES.match(pattern, at)
        if match is None:  # a backslash at the end: git says that such a pattern never fits
            return "(?!)"
        at, kind = match.end(), str(match.lastgroup)
        if kind == "set":
            at, part = _set(pattern, at)
            parts.append(part)
        else:
            parts.append(_MEANINGS.get(kind) or re.escape(match.group(kind)))
    return "".join(parts)


def _set(pattern: str, at: int) -> Tuple[int, str]:
    """`[…]` from behind its bracket: where it ends, and its expression. It never fits a slash."""
    start = at
    is_negated = pattern[at : at + 1] in ("!", "^")
    at += is_negated
    body = ""
    while at < len(pattern) and (pattern[at] != "]" or not body):
        if pattern.startswith("[:", at) and ":]" in pattern[at:]:
            end = pattern.index(":]", at)
            body += _CLASSES.get(pattern[at + 2 : end], "")
            at = end + 2
            continue
        at += pattern[at] == "\\"
        char = pattern[at : at + 1]
        body += char if char == "-" and pattern[at - 1 : at] != "\\" else re.escape(char)
        at += 1
    if at >= len(pattern):  # never closed: git lets it match nothing
        return len(pattern), "(?!)"
    return at + 1, f"(?!/)[{'^' if is_negated else ''}{body}]" if at > start else "(?!)"


_CLASSES = {
    "alnum": "a-zA-Z0-9", "alpha": "a-zA-Z", "blank": " \\t", "digit": "0-9", "lower": "a-z", "upper": "A-Z",
    "space": "\\s", "xdigit": "0-9A-Fa-f", "punct": "!-/:-@\\[-`{-~",
}  # fmt: skip
