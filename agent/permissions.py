"""The manifest's keys that say what a project may use: its secrets, its user, its limits, its way to more rights."""

from __future__ import annotations

from typing import Any, List, Optional, Tuple

from agent.errors import MalformedRequest
from agent.model import ResourceLimits, parse_secret_name
from agent.values import kind_of, read_integer, read_known, read_number, read_text, refuse

_MIB = 1 << 20


def read_secrets(name: str, value: Any, _: List[str]) -> Tuple[str, ...]:
    """`["jwt", …]`: what must be on the host before the project starts."""
    if not isinstance(value, list):
        refuse(name, f"expected a list of names, found {kind_of(value)}")
    for index, secret in enumerate(value):
        try:
            parse_secret_name(secret)
        except MalformedRequest as error:
            refuse(f"{name}[{index}]", "it is no name of a secret", error.hint)
    return tuple(value)


def read_user(name: str, value: Any, _: List[str]) -> str:
    """The name of a user of the host. Whether there is one is seen there."""
    text = read_text(name, value)
    if not text or len(text) > 256 or set(text) & set(":/\n "):
        refuse(name, f"{text[:40]!r} is no name of a user", "Write a user's name, such as www-data.")
    return text


def read_limits(name: str, value: Any, warnings: List[str]) -> ResourceLimits:
    """`{"memory_bytes", "cpus", "processes", "open_files"}`, each as it likes."""
    members = read_known(name, value, ("memory_bytes", "cpus", "processes", "open_files"), warnings)
    for key, least in (("memory_bytes", _MIB), ("processes", 1), ("open_files", 16)):
        if key in members:
            read_integer(f"{name}.{key}", members[key], least, 1 << 50)
    if "cpus" in members:
        members["cpus"] = read_number(f"{name}.cpus", members["cpus"], 0.01, 4096)
    return ResourceLimits(**members)


def read_new_privileges(name: str, value: Any, _: List[str]) -> Optional[bool]:
    """Whether setuid programs (sudo, ping) give the project more rights than it was started with."""
    if not isinstance(value, bool):
        refuse(name, f"expected true or false, found {kind_of(value)}")
    return value
