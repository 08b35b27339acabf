"""The manifest's members about the launch itself: sockets, hooks, migrations, readiness. Every refusal names the field."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Tuple
from urllib.parse import urlsplit

from agent.model import MAX_SOCKETS, Hook, Migrations, Readiness
from agent.values import kind_of, read_command, read_known, read_members, read_number, read_text, refuse

_SOCKET_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})")
_CHECKS = ("http", "tcp", "command", "file", "notify")
_MAX_SECONDS = 3600.0


def read_sockets(name: str, value: Any, _: List[str]) -> Dict[str, str]:
    """`{NAME: "HOST:PORT" | "unix:PATH"}`; a relative PATH is below $PERSIST_DIR."""
    members = read_members(name, value)
    if len(members) > MAX_SOCKETS:
        refuse(name, f"there are {len(members)} of them", f"A project may have {MAX_SOCKETS} sockets.")
    for socket, address in members.items():
        if not _SOCKET_NAME.fullmatch(socket):
            refuse(f"{name}.{socket[:60]}", "it is no name of a socket", "Use letters, digits, '_', '.' and '-'.")
        if read_text(f"{name}.{socket}", address).startswith("unix:"):
            if _leaves(address[5:].lstrip("/")):
                refuse(f"{name}.{socket}", f"{address[:60]!r} names no file", "Use unix:web.sock (in $PERSIST_DIR) or so.")
        elif not _is_address(address):
            refuse(f"{name}.{socket}", f"{address[:60]!r} is no address", "Use HOST:PORT, such as 127.0.0.1:8080, or unix:PATH.")
    return dict(members)


def read_readiness(name: str, value: Any, warnings: List[str]) -> Readiness:
    """One check of `http`, `tcp`, `command`, `file`, `notify`, with `timeout_seconds` and `interval_seconds`."""
    members = read_known(name, value, (*_CHECKS, "timeout_seconds", "interval_seconds"), warnings)
    kinds = [kind for kind in _CHECKS if kind in members]
    if len(kinds) != 1:
        refuse(name, f"expected one of {', '.join(_CHECKS)}, found {' and '.join(kinds) or 'none of them'}")
    kind = kinds[0]
    target = _target(f"{name}.{kind}", kind, members.pop(kind))
    if "timeout_seconds" in members:
        members["timeout_seconds"] = read_number(f"{name}.timeout_seconds", members["timeout_seconds"], 0.1, _MAX_SECONDS)
    if "interval_seconds" in members:
        members["interval_seconds"] = read_number(f"{name}.interval_seconds", members["interval_seconds"], 0.01, _MAX_SECONDS)
    return Readiness(kind, target, **members)


def _target(name: str, kind: str, value: Any) -> str:
    if kind == "notify":
        if value is not True:
            refuse(name, "expected true", 'Write {"notify": true}, and send READY=1 to $NOTIFY_SOCKET.')
        return ""
    target = read_text(name, value)
    if kind == "http" and not _is_url(target):
        refuse(name, f"{target[:60]!r} is no http:// or https:// URL", "Use http://127.0.0.1:8080/healthz or so.")
    if kind == "tcp" and not _is_address(target):
        refuse(name, f"{target[:60]!r} is no address", "Use HOST:PORT, such as 127.0.0.1:8080.")
    if not target.strip():
        refuse(name, "it is empty", "Name what tells that the project is ready.")
    return target


def _is_address(text: str) -> bool:
    match = _ADDRESS.fullmatch(text)
    return match is not None and 1 <= int(match.group(2)) <= 65535


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        return is_whole and text.isascii() and " " not in text
    except ValueError:
        return False


def read_before_launch(name: str, value: Any, warnings: List[str]) -> Tuple[Hook, ...]:
    """A list of commands: text for the shell, a list of words, or `{"command": …, "timeout_seconds": 300}`."""
    if not isinstance(value, list):
        refuse(name, f"expected a list of commands, found {kind_of(value)}", 'Write ["./migrate.sh"] or so.')
    return tuple(_hook(f"{name}[{index}]", entry, warnings) for index, entry in enumerate(value))


def _hook(name: str, value: Any, warnings: List[str]) -> Hook:
    hint = "Leave it out, or name a command."
    if not isinstance(value, dict):
        return Hook(read_command(name, value, hint))
    members = read_known(name, value, ("command", "timeout_seconds"), warnings)
    command = read_command(f"{name}.command", members.get("command"), hint)
    if "timeout_seconds" not in members:
        return Hook(command)
    return Hook(command, read_number(f"{name}.timeout_seconds", members["timeout_seconds"], 0.1, _MAX_SECONDS))


def read_migrations(name: str, value: Any, warnings: List[str]) -> Migrations:
    """`{"path": "migrations", "database": "sqlite:data/app.db" | "postgresql://…", "timeout_seconds": 300}`."""
    members = read_known(name, value, ("path", "database", "timeout_seconds"), warnings)
    path = read_text(f"{name}.path", members.get("path", "migrations"))
    if path.startswith("/") or _leaves(path):
        refuse(f"{name}.path", "it does not stay inside the release", "Name a folder of the artifact, such as migrations.")
    database = read_text(f"{name}.database", members.get("database"))
    kind, _, rest = database.partition(":")
    if kind == "sqlite":
        if not rest.startswith("/") and (not rest.startswith("data/") or _leaves(rest)):
            refuse(f"{name}.database", f"{rest[:60]!r} would not survive the release", "Use sqlite:data/app.db, in $PERSIST_DIR.")
    elif kind not in ("postgresql", "postgres") or not rest.startswith("//"):
        refuse(f"{name}.database", "it is neither sqlite:PATH nor postgresql://…", "Use sqlite:data/app.db or so.")
    seconds = read_number(f"{name}.timeout_seconds", members.get("timeout_seconds", 300.0), 0.1, _MAX_SECONDS)
    return Migrations(path, database, seconds)


def _leaves(path: str) -> bool:
    """Whether a relative path names nothing, or something outside the folder that it is relative to."""
    return not path.strip("/") or ".." in path.split("/")
