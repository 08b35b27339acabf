"""What the agent talks about: identifiers, policies, releases, exit causes. Frozen, no I/O.

Values are parsed at the edge (manifest.py, web/) and trusted from here on.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, Optional, Tuple, Union

from agent import SCHEMA
from agent.errors import MalformedRequest

AGENT_PROJECT = "ant-host-agent"
#: What a key may do; each may do what those before it may.
READ, DEPLOY, ADMIN = ROLES = ("read", "deploy", "admin")
#: Whether standard output and standard error can be told apart.
TOGETHER, SEPARATE = "together", "separate"
#: No manifest may ask for smaller log segments.
MIN_SEGMENT_BYTES = 1024
#: How many sockets a project may have its shim hold.
MAX_SOCKETS = 64

PROJECT_PATTERN = r"[a-z0-9][a-z0-9-]{0,62}"
VERSION_PATTERN = r"[A-Za-z0-9._+-]{1,128}"
_DIGEST = re.compile(r"[0-9a-f]{64}")
SECRET_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"


def parse_project(text: object) -> str:
    """A project id, or MalformedRequest that says what one looks like."""
    if not isinstance(text, str) or not re.fullmatch(PROJECT_PATTERN, text):
        raise MalformedRequest(
            f"project: {_shown(text)} is not a project id.",
            "Use 1 to 63 characters a-z, 0-9 and '-', starting with a letter or digit.",
        )
    return text


def parse_version(text: object) -> str:
    """A version label, or MalformedRequest that says what one looks like."""
    if not isinstance(text, str) or not re.fullmatch(VERSION_PATTERN, text) or text in (".", ".."):
        raise MalformedRequest(
            f"version: {_shown(text)} is not a version.",
            "Use 1 to 128 characters A-Z, a-z, 0-9, '.', '_', '+', '-', other than '.' and '..'.",
        )
    return text


def parse_digest(text: object) -> str:
    """A SHA-256 digest as 64 lower-case hexadecimal digits, or MalformedRequest."""
    if not isinstance(text, str) or not _DIGEST.fullmatch(text.lower()):
        raise MalformedRequest(
            f"sha256: {_shown(text)} is not a SHA-256 digest.", "Send 64 hexadecimal digits, as sha256sum prints them."
        )
    return text.lower()


def parse_secret_name(text: object) -> str:
    """A secret's name, which is its file's, or MalformedRequest that says what one looks like."""
    if not isinstance(text, str) or not re.fullmatch(SECRET_PATTERN, text):
        raise MalformedRequest(
            f"name: {_shown(text)} is not a secret's name.",
            "Use 1 to 128 characters A-Z, a-z, 0-9, '_', '.', '-', not starting with '.' or '-'.",
        )
    return text


def _shown(text: object) -> str:
    shown = repr(text)
    return shown if len(shown) <= 80 else shown[:77] + "..."


@dataclass(frozen=True)
class StopPolicy:
    """How a run is asked to end: the stop signal's name, then SIGKILL after the grace period."""

    signal: str = "SIGTERM"
    grace_seconds: float = 10.0


@dataclass(frozen=True)
class RestartPolicy:
    """When a run that ended by itself is started again, and how long that waits.

    The delay doubles from `delay_seconds` to `max_delay_seconds` and starts over after a run
    of at least `reset_seconds`.
    """

    policy: str = "always"
    delay_seconds: float = 0.1
    max_delay_seconds: float = 30.0
    reset_seconds: float = 10.0


@dataclass(frozen=True)
class LogPolicy:
    """Output is kept in `segments` files of at most `segment_bytes`; `include` globs go into the tar; `streams`: see above."""

    segment_bytes: int = 10 * 1024 * 1024
    segments: int = 10
    include: Tuple[str, ...] = ()
    streams: str = TOGETHER


@dataclass(frozen=True)
class Readiness:
    """How a run says that it is ready, and how long it may take to say so.

    `kind` is http (a URL), tcp (HOST:PORT), command (text for sh -c), file (a path) or notify (READY=1, sd_notify(3)).
    """

    kind: str
    target: str = ""
    timeout_seconds: float = 30.0
    interval_seconds: float = 0.1


@dataclass(frozen=True)
class Hook:
    """A command that has to succeed in the new release before it replaces the old one."""

    command: Tuple[str, ...]
    timeout_seconds: float = 300.0

    def __str__(self) -> str:
        return self.command[2] if self.command[:2] == ("/bin/sh", "-c") else " ".join(self.command)


@dataclass(frozen=True)
class Migrations:
    """The folder of the artifact with *.sql files, and the database that each is applied to once."""

    path: str
    database: str
    timeout_seconds: float = 300.0


@dataclass(frozen=True)
class ResourceLimits:
    """What all processes of a run together may use (`open_files`: each of them); None is no limit."""

    memory_bytes: Optional[int] = None
    cpus: Optional[float] = None
    processes: Optional[int] = None
    open_files: Optional[int] = None


@dataclass(frozen=True)
class Release:
    """An artifact unpacked on this host, with everything that a shim needs to run it.

    `command` is executed in the release's directory; `env` is what the artifact's `.env` and manifest add; `sockets` maps names
    to addresses (`HOST:PORT`, `unix:PATH`) that the shim holds; by `generation`, the want's when it came, releases are in order.
    """

    project: str
    version: str
    digest: str
    size_bytes: int
    command: Tuple[str, ...]
    env: Dict[str, str] = field(default_factory=dict)
    stop: StopPolicy = StopPolicy()
    restart: RestartPolicy = RestartPolicy()
    logs: LogPolicy = LogPolicy()
    sockets: Dict[str, str] = field(default_factory=dict)
    manifest: Dict[str, Any] = field(default_factory=dict)
    warnings: Tuple[str, ...] = ()
    received_at: str = ""
    received_from: str = ""
    readiness: Optional[Readiness] = None
    before_launch: Tuple[Hook, ...] = ()
    migrations: Optional[Migrations] = None
    secrets: Tuple[str, ...] = ()
    user: Optional[str] = None
    limits: ResourceLimits = ResourceLimits()
    new_privileges: bool = False
    generation: int = 0

    def to_json(self) -> Dict[str, Any]:
        """The content of `releases/<version>.json`."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, document: Dict[str, Any]) -> Release:
        """Read what any released version wrote; unknown members are a newer version's and are left out."""
        known = {name: document[name] for name in cls.__dataclass_fields__ if name in document}
        known["command"] = tuple(known["command"])
        known["warnings"] = tuple(known.get("warnings", ()))
        known["stop"] = StopPolicy(**_known(StopPolicy, known.get("stop", {})))
        known["restart"] = RestartPolicy(**_known(RestartPolicy, known.get("restart", {})))
        logs = _known(LogPolicy, known.get("logs", {}))
        known["logs"] = LogPolicy(**{**logs, "include": tuple(logs.get("include", ()))})
        for name, kind in (("readiness", Readiness), ("migrations", Migrations)):
            known[name] = kind(**_known(kind, known[name])) if known.get(name) is not None else None
        hooks = (_known(Hook, hook) for hook in known.get("before_launch", ()))
        known["before_launch"] = tuple(Hook(**{**hook, "command": tuple(hook["command"])}) for hook in hooks)
        known["secrets"] = tuple(known.get("secrets", ()))
        known["limits"] = ResourceLimits(**_known(ResourceLimits, known.get("limits", {})))
        return cls(**known)


def _known(kind: Any, document: Dict[str, Any]) -> Dict[str, Any]:
    return {name: value for name, value in document.items() if name in kind.__dataclass_fields__}


@dataclass(frozen=True)
class Exited:
    """The run ended by itself with this exit code."""

    code: int

    def __str__(self) -> str:
        return f"exited with code {self.code}"


@dataclass(frozen=True)
class Signaled:
    """The run was ended by a signal; `oom` when the kernel did it for memory."""

    signal: int
    core: bool = False
    oom: bool = False

    def __str__(self) -> str:
        why = " (out of memory)" if self.oom else " (core dumped)" if self.core else ""
        return f"killed by {signal_name(self.signal)}{why}"


@dataclass(frozen=True)
class FailedToStart:
    """The run's command could not be executed."""

    reason: str

    def __str__(self) -> str:
        return f"could not start: {self.reason}"


@dataclass(frozen=True)
class NotReady:
    """The run was ended, since it had not become ready in time."""

    reason: str

    def __str__(self) -> str:
        return f"was not ready in time: {self.reason}"


@dataclass(frozen=True)
class UnknownExit:
    """The run is gone and nobody was there to learn how it ended."""

    reason: str

    def __str__(self) -> str:
        return f"ended in an unknown way ({self.reason})"


ExitCause = Union[Exited, Signaled, FailedToStart, NotReady, UnknownExit]
_CAUSES: Dict[str, Any] = {
    "exited": Exited, "signaled": Signaled, "failed_to_start": FailedToStart, "not_ready": NotReady, "unknown": UnknownExit,
}  # fmt: skip


def cause_to_json(cause: ExitCause) -> Dict[str, Any]:
    """`{"kind": "exited", "code": 7, "text": "exited with code 7"}` and the like."""
    kind = next(name for name, kind in _CAUSES.items() if isinstance(cause, kind))
    return {"kind": kind, **asdict(cause), "text": str(cause)}


def cause_from_json(document: Optional[Dict[str, Any]]) -> Optional[ExitCause]:
    """The inverse of `cause_to_json`; None stays None."""
    if document is None:
        return None
    kind = _CAUSES[document["kind"]]
    cause: ExitCause = kind(**_known(kind, document))
    return cause


# Linux's names for the signals 1..31 (signal(7)), so that a pure module needs no `signal`.
_SIGNALS = (
    "SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2 SIGPIPE SIGALRM SIGTERM "
    "SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGWINCH SIGIO "
    "SIGPWR SIGSYS"
).split()


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; `signal 40` for what has no name."""
    return _SIGNALS[number - 1] if 1 <= number <= len(_SIGNALS) else f"signal {number}"


def signal_number(name: str) -> int:
    """9 for `SIGKILL`; KeyError for what is not a signal's name."""
    try:
        return _SIGNALS.index(name) + 1
    except ValueError:
        raise KeyError(name) from None
