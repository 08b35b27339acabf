"""The errors that reach people: one base, few kinds.

Each kind knows its HTTP status, the command line's exit code and whose fault it is. A message
says what happened and names the field, path or pid; a hint says what to do about it. They
travel as `application/problem+json` (RFC 9457), so the client raises what the server raised.
"""

from __future__ import annotations

from typing import Any, Dict, Optional, Type

PROBLEM_TYPE_PREFIX = "urn:ant-host-agent:"

#: Exit codes of the command line, by whose fault it was (README has the same table).
EXIT_OK, EXIT_AGENT_FAULT, EXIT_USAGE, EXIT_ALREADY_RUNNING = 0, 1, 2, 3
EXIT_REFUSED, EXIT_ARTIFACT_FAULT, EXIT_HOST_BUSY, EXIT_UNREACHABLE = 4, 5, 6, 7


class AgentError(Exception):
    """A refusal or failure with a reason for a person.

    `detail` is one sentence; `hint` says what to do; `members` are further members of the
    problem document (`project`, `step`, `exit_cause`, `log_tail`, `running`, …).
    """

    kind = "internal"
    title = "The agent failed"
    status = 500
    exit_code = EXIT_AGENT_FAULT

    def __init__(self, detail: str, hint: Optional[str] = None, **members: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.members = members

    @property
    def headers(self) -> Dict[str, str]:
        """Response headers that belong to this refusal."""
        return {}

    def to_problem(self) -> Dict[str, Any]:
        """The RFC 9457 document of this error."""
        problem: Dict[str, Any] = {
            "type": PROBLEM_TYPE_PREFIX + self.kind,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.hint:
            problem["hint"] = self.hint
        problem.update(self.members)
        return problem


class MalformedRequest(AgentError):
    """400: the call itself can't be understood."""

    kind, title, status, exit_code = "malformed-request", "The call is malformed", 400, EXIT_USAGE


class Unauthenticated(AgentError):
    """401: no key, or not one of ours. The body is always the same; `tried` is for the audit log alone."""

    kind, title, status, exit_code = "unauthenticated", "No valid key", 401, EXIT_REFUSED
    tried = ""

    def __init__(self, detail: str = "This call needs a key.", hint: Optional[str] = None, **members: Any) -> None:
        hint = hint or "Send 'Authorization: Bearer <token>'; on the host the admin token is in the store's file 'token'."
        super().__init__(detail, hint, **members)

    @property
    def headers(self) -> Dict[str, str]:
        # Basic first: Chromium looks at the first challenge of a header only, and would not ask for a password
        return {"WWW-Authenticate": 'Basic realm="ant-host-agent", Bearer realm="ant-host-agent"'}


class Forbidden(AgentError):
    """403: the key may not do this."""

    kind, title, status, exit_code = "forbidden", "Not allowed", 403, EXIT_REFUSED


class NotFound(AgentError):
    """404: no such project, version or path."""

    kind, title, status, exit_code = "not-found", "Not found", 404, EXIT_REFUSED


class MethodNotAllowed(AgentError):
    """405: the path exists, the method does not. `allow` is the list for the Allow header."""

    kind, title, status, exit_code = "method-not-allowed", "Wrong method", 405, EXIT_USAGE

    @property
    def headers(self) -> Dict[str, str]:
        return {"Allow": ", ".join(self.members.get("allow", ()))}


class Conflict(AgentError):
    """409: what is there already is in the way."""

    kind, title, status, exit_code = "conflict", "Conflict", 409, EXIT_REFUSED


class LengthRequired(AgentError):
    """411: a body was expected and its length is not known."""

    kind, title, status, exit_code = "length-required", "Length required", 411, EXIT_USAGE


class TooLarge(AgentError):
    """413: more bytes than this host takes."""

    kind, title, status, exit_code = "too-large", "Too large", 413, EXIT_REFUSED


class Misdirected(AgentError):
    """421: the call's Host is none of this agent's names: a rebound DNS name, or a proxy that passes on a foreign one."""

    kind, title, status, exit_code = "misdirected", "Not this host", 421, EXIT_REFUSED


class UnsupportedMediaType(AgentError):
    """415: a body of a kind that this call does not read."""

    kind, title, status, exit_code = "unsupported-media-type", "Unsupported content type", 415, EXIT_USAGE


class ArtifactFault(AgentError):
    """422: the artifact, its manifest or its program is at fault; sending it again changes nothing."""

    kind, title, status, exit_code = "artifact-fault", "The artifact can't be launched", 422, EXIT_ARTIFACT_FAULT


class Busy(AgentError):
    """503: not now. `retry_after_seconds` goes into the Retry-After header."""

    kind, title, status, exit_code = "busy", "Busy", 503, EXIT_HOST_BUSY

    def __init__(self, detail: str, hint: Optional[str] = None, retry_after_seconds: int = 2, **members: Any) -> None:
        super().__init__(detail, hint, **members)
        self.retry_after_seconds = retry_after_seconds

    @property
    def headers(self) -> Dict[str, str]:
        return {"Retry-After": str(self.retry_after_seconds)}


class TooManyAttempts(Busy):
    """429: too many wrong keys from one address. The body is always the same."""

    kind, title, status, exit_code = "too-many-attempts", "Too many wrong keys", 429, EXIT_REFUSED


class StorageFull(AgentError):
    """507: the disk would become too full."""

    kind, title, status, exit_code = "storage-full", "Not enough disk space", 507, EXIT_HOST_BUSY


class UsageError(AgentError):
    """A flag, an environment variable or a file of the configuration is wrong. Exit code 2, never HTTP."""

    kind, title, exit_code = "usage", "Wrong usage", EXIT_USAGE


class AlreadyRunning(AgentError):
    """Another agent serves this store. Exit code 3, never HTTP."""

    kind, title, exit_code = "already-running", "Already running", EXIT_ALREADY_RUNNING


class Unreachable(AgentError):
    """The client could not talk to the agent. Exit code 7, never HTTP."""

    kind, title, exit_code = "unreachable", "The agent can't be reached", EXIT_UNREACHABLE


KINDS: Dict[str, Type[AgentError]] = {
    kind.kind: kind
    for kind in (
        AgentError,
        MalformedRequest,
        Unauthenticated,
        Forbidden,
        NotFound,
        MethodNotAllowed,
        Conflict,
        LengthRequired,
        TooLarge,
        Misdirected,
        UnsupportedMediaType,
        ArtifactFault,
        Busy,
        TooManyAttempts,
        StorageFull,
    )
}


def from_problem(problem: Dict[str, Any]) -> AgentError:
    """The error that a problem document describes; an unknown type becomes the base with its status kept."""
    kind = str(problem.get("type", "")).replace(PROBLEM_TYPE_PREFIX, "", 1)
    members = {k: v for k, v in problem.items() if k not in ("type", "title", "status", "detail", "hint")}
    error = KINDS.get(kind, AgentError)(str(problem.get("detail", "")), problem.get("hint"), **members)
    if kind not in KINDS:
        error.status = int(problem.get("status", 500))
    return error
