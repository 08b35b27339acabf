"""The manifest: bytes of `anthill.json` → Manifest. Every refusal names the field.

The file belongs to the whole ecosystem, so keys that aren't ours are reported, not refused; a key
of ours with a bad value is an ArtifactFault, never a default.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, NoReturn, Optional, Tuple

from agent import permissions
from agent.errors import ArtifactFault, MalformedRequest
from agent.manifest_launch import read_before_launch, read_migrations, read_readiness, read_sockets
from agent.model import (
    MIN_SEGMENT_BYTES,
    SEPARATE,
    TOGETHER,
    Hook,
    LogPolicy,
    Migrations,
    Readiness,
    ResourceLimits,
    RestartPolicy,
    StopPolicy,
    parse_project,
    parse_version,
    signal_number,
)
from agent.values import ignored, kind_of, read_command, read_integer, read_known, read_members, read_number, read_text, refuse

MAX_BYTES = 64 * 1024
MAX_DEPTH = 32
#: All of a project's segments together.
_MOST_LOG_BYTES = 64 << 30
#: The names that the agent sets itself, last.
CONTRACT_NAMES = ("PROJECT", "VERSION", "PERSIST_DIR", "SECRETS_DIR", "RELEASE_DIR")

_MAX_SECONDS = 7 * 24 * 3600.0
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_POLICIES = ("always", "on-failure", "never")


@dataclass(frozen=True)
class Manifest:
    """What an artifact says about itself. `document` is the JSON as it came; `warnings` say what had no effect."""

    project: Optional[str] = None
    version: Optional[str] = None
    command: Optional[Tuple[str, ...]] = None
    env: Dict[str, str] = field(default_factory=dict)
    stop: StopPolicy = field(default_factory=StopPolicy)
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    logs: LogPolicy = field(default_factory=LogPolicy)
    keep_releases: int = 5
    sockets: Dict[str, str] = field(default_factory=dict)
    readiness: Optional[Readiness] = None
    before_launch: Tuple[Hook, ...] = ()
    migrations: Optional[Migrations] = None
    secrets: Tuple[str, ...] = ()
    user: Optional[str] = None
    limits: ResourceLimits = field(default_factory=ResourceLimits)
    new_privileges: bool = False
    document: Dict[str, Any] = field(default_factory=dict)
    warnings: Tuple[str, ...] = ()


def parse(data: bytes) -> Manifest:
    """The manifest in `data`, UTF-8 JSON of at most 64 KiB; ArtifactFault (its `field` a member) for a bad one."""
    document = _parse_json(data)
    warnings: List[str] = []
    values: Dict[str, Any] = {}
    for key, value in document.items():
        if key in _FIELDS:
            values[key] = _FIELDS[key](key, value, warnings)
        else:
            warnings.append(ignored(key))
    return Manifest(document=document, warnings=tuple(warnings), **values)


def _parse_json(data: bytes) -> Dict[str, Any]:
    if len(data) > MAX_BYTES:
        refuse("anthill.json", f"it has more than {MAX_BYTES} bytes")
    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
    except UnicodeDecodeError as error:
        refuse("anthill.json", f"byte {error.start} is not UTF-8")
    except json.JSONDecodeError as error:
        refuse("anthill.json", f"it is no JSON: {error.msg} in line {error.lineno}, column {error.colno}")
    except RecursionError:
        refuse("anthill.json", "it is nested too deeply")
    except ValueError:
        # CPython ≥ 3.11 refuses integers of more than 4300 digits.
        refuse("anthill.json", "it has a number that is too long")
    if not isinstance(document, dict):
        refuse("anthill.json", f"it is {kind_of(document)}, not an object", 'Write {"command": "./run.sh"} or so.')
    _check_nested(document)
    return document


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        refuse(next(name for name in names if names.count(name) > 1), "it is there twice in one object")
    return members


def _constant(text: str) -> NoReturn:
    refuse("anthill.json", f"{text} is no JSON number")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        refuse("anthill.json", f"the number {text[:20]} is out of range")
    return value


def _check_nested(document: Dict[str, Any]) -> None:
    """Depth, and text that can't be written as UTF-8 again (a lone surrogate, `"\\ud800"`)."""
    level: List[Any] = [document]
    for _ in range(MAX_DEPTH):
        below: List[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += [*value, *value.values()]
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
                refuse("anthill.json", "it has text with half a surrogate pair")
        level = below
    if level:
        refuse("anthill.json", f"it is nested more than {MAX_DEPTH} levels deep")


def _project(name: str, value: Any, _: List[str]) -> str:
    try:
        return parse_project(value)
    except MalformedRequest as error:
        raise ArtifactFault(f"manifest: {error.detail}", error.hint, field=name) from None


def _version(name: str, value: Any, _: List[str]) -> str:
    try:
        return parse_version(value)
    except MalformedRequest as error:
        raise ArtifactFault(f"manifest: {error.detail}", error.hint, field=name) from None


def _command(name: str, value: Any, _: List[str]) -> Tuple[str, ...]:
    return read_command(name, value, "Leave the key out, and run.sh and its like are looked for.")


def _env(name: str, value: Any, warnings: List[str]) -> Dict[str, str]:
    members = read_members(name, value)
    for variable, text in members.items():
        if not _ENV_NAME.fullmatch(variable):
            refuse(
                f"{name}.{variable[:60]}",
                "it is no name of an environment variable",
                "Use letters, digits and '_', not starting with a digit.",
            )
        read_text(f"{name}.{variable}", text)
        if variable in CONTRACT_NAMES:
            warnings.append(f"'{name}.{variable}' has no effect: the agent sets {variable} itself")
    return dict(members)


def _stop(name: str, value: Any, warnings: List[str]) -> StopPolicy:
    members = read_known(name, value, ("signal", "grace_seconds"), warnings)
    if "signal" in members:
        try:
            signal_number(read_text(f"{name}.signal", members["signal"]))
        except KeyError:
            refuse(f"{name}.signal", f"{members['signal'][:40]!r} is no signal", "Use SIGTERM, SIGINT or so.")
    if "grace_seconds" in members:
        members["grace_seconds"] = read_number(f"{name}.grace_seconds", members["grace_seconds"], 0, _MAX_SECONDS)
    return StopPolicy(**members)


def _restart(name: str, value: Any, warnings: List[str]) -> RestartPolicy:
    members = read_known(name, value, ("policy", "delay_seconds", "max_delay_seconds", "reset_seconds"), warnings)
    if "policy" in members and members["policy"] not in _POLICIES:
        refuse(f"{name}.policy", f"expected one of {', '.join(_POLICIES)}")
    # A delay of 0 would never grow, and a crash loop would take a whole CPU.
    for key, least in (("delay_seconds", 0.01), ("max_delay_seconds", 0.01), ("reset_seconds", 0.0)):
        if key in members:
            members[key] = read_number(f"{name}.{key}", members[key], least, _MAX_SECONDS)
    delay = members.get("delay_seconds", RestartPolicy.delay_seconds)
    longest = members.setdefault("max_delay_seconds", max(delay, RestartPolicy.max_delay_seconds))
    if longest < delay:
        refuse(f"{name}.max_delay_seconds", f"{longest:g} is less than delay_seconds, {delay:g}")
    return RestartPolicy(**members)


def _logs(name: str, value: Any, warnings: List[str]) -> LogPolicy:
    members = read_known(name, value, ("segment_bytes", "segments", "include", "streams"), warnings)
    if "segment_bytes" in members:
        read_integer(f"{name}.segment_bytes", members["segment_bytes"], MIN_SEGMENT_BYTES, 1 << 40)
    if "segments" in members:
        read_integer(f"{name}.segments", members["segments"], 1, 10_000)
    policy = LogPolicy(**{key: value for key, value in members.items() if key != "include"})
    if policy.segment_bytes * policy.segments > _MOST_LOG_BYTES:
        refuse(name, f"segments times segment_bytes is more than {_MOST_LOG_BYTES}", "Keep less: logs never fill the host.")
    if "include" in members:
        members["include"] = _globs(f"{name}.include", members["include"])
    if "streams" in members and members["streams"] not in (TOGETHER, SEPARATE):
        refuse(f"{name}.streams", f"expected {TOGETHER} or {SEPARATE}")
    return LogPolicy(**members)


def _globs(name: str, value: Any) -> Tuple[str, ...]:
    if not isinstance(value, list):
        refuse(name, f"expected a list of texts, found {kind_of(value)}")
    for index, pattern in enumerate(value):
        text = read_text(f"{name}[{index}]", pattern)
        if not text or text.startswith("/") or ".." in text.split("/"):
            refuse(f"{name}[{index}]", "it does not stay inside the release", "Use patterns such as logs/*.log.")
    return tuple(value)


def _keep_releases(name: str, value: Any, _: List[str]) -> int:
    return read_integer(name, value, 1, 1000)


_FIELDS: Dict[str, Callable[[str, Any, List[str]], Any]] = {
    "project": _project,
    "version": _version,
    "command": _command,
    "env": _env,
    "stop": _stop,
    "restart": _restart,
    "logs": _logs,
    "keep_releases": _keep_releases,
    "sockets": read_sockets,
    "readiness": read_readiness,
    "before_launch": read_before_launch,
    "migrations": read_migrations,
    "secrets": permissions.read_secrets,
    "user": permissions.read_user,
    "limits": permissions.read_limits,
    "new_privileges": permissions.read_new_privileges,
}
