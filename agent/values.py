"""Readers of single values in a manifest: each gives what was asked for, or refuses it by the name of its field."""

from __future__ import annotations

from typing import Any, Dict, List, NoReturn, Optional, Tuple

from agent.errors import ArtifactFault


def refuse(name: str, reason: str, hint: Optional[str] = None) -> NoReturn:
    """ArtifactFault for the manifest's field of that name."""
    raise ArtifactFault(f"manifest: {name}: {reason}.", hint or "Correct anthill.json.", field=name)


def kind_of(value: Any) -> str:
    """What a JSON value is, for a sentence."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def ignored(key: str) -> str:
    """The warning for a key that nobody reads."""
    return f"unknown key '{key if len(key) <= 60 else key[:57] + '...'}' was ignored"


def read_text(name: str, value: Any) -> str:
    """Text without NUL."""
    if not isinstance(value, str):
        refuse(name, f"expected text, found {kind_of(value)}")
    if "\0" in value:
        refuse(name, "it has a NUL character")
    return value


def read_number(name: str, value: Any, least: float, most: float) -> float:
    """A number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        refuse(name, f"expected a number, found {kind_of(value)}")
    if not least <= value <= most:
        refuse(name, f"expected a number from {least:g} to {most:g}, found {str(value)[:40]}")
    return float(value)


def read_integer(name: str, value: Any, least: int, most: int) -> int:
    """A whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int):
        refuse(name, f"expected a whole number, found {'a fraction' if isinstance(value, float) else kind_of(value)}")
    if not least <= value <= most:
        refuse(name, f"expected a whole number from {least} to {most}, found {str(value)[:40]}")
    return int(value)


def read_members(name: str, value: Any) -> Dict[str, Any]:
    """An object."""
    if not isinstance(value, dict):
        refuse(name, f"expected an object, found {kind_of(value)}")
    return value


def read_known(name: str, value: Any, known: Tuple[str, ...], warnings: List[str]) -> Dict[str, Any]:
    """The members of an object that are in `known`; each other one is a warning."""
    members = read_members(name, value)
    warnings += [ignored(f"{name}.{key}") for key in members if key not in known]
    return {key: member for key, member in members.items() if key in known}


def read_command(name: str, value: Any, hint: str) -> Tuple[str, ...]:
    """A list of words, or text for the shell; `hint` tells what to do about an empty one."""
    if isinstance(value, list):
        words = tuple(read_text(f"{name}[{index}]", word) for index, word in enumerate(value))
        if not words or not words[0]:
            refuse(name, "there is no program in the list", 'Write ["./server", "--port", "8080"] and the like.')
        return words
    if not isinstance(value, str):
        refuse(name, f"expected text or a list of texts, found {kind_of(value)}")
    if not value.strip():
        refuse(name, "it is empty", hint)
    return ("/bin/sh", "-c", read_text(name, value))
