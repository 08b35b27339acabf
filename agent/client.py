"""The HTTP client: one method a verb; it raises the errors that the agent raised."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import ssl
import time
from typing import Any, BinaryIO, Dict, Mapping, Optional, Sequence, Tuple, Union
from urllib.parse import urlencode

from agent.config import DEFAULT_LISTEN, ENVIRONMENT_PREFIX, ServeConfig, default_store
from agent.connection import Body, ConnectionLost, Exchange, Progress, form_body, reason
from agent.download import Download
from agent.errors import KINDS, AgentError, Conflict, Unreachable, UsageError, from_problem
from agent.model import parse_project, parse_secret_name
from agent.store.layout import StoreLayout

Json = Dict[str, Any]

#: A launch, kill or restart answers when it is done: a long readiness or grace period is no fault of the network.
WORK_SECONDS = 900.0
#: What is followed may be silent for long.
FOLLOW_SECONDS = 366 * 86400.0
_CHUNK_BYTES = 256 * 1024
_RETRY_SECONDS = 0.1


class Client:
    """Calls one agent. Every method raises an AgentError: the agent's own one, or Unreachable."""

    def __init__(
        self, url: str, token: Optional[str] = None, timeout_seconds: float = 30.0, tls: Optional[ssl.SSLContext] = None
    ) -> None:
        self._exchange = Exchange(url, token, timeout_seconds, tls)
        self.url = self._exchange.url

    def ping(self) -> str:
        """`pong`; any other answer is not an agent's."""
        text = self._read(self._open("GET", "/ping")).decode(errors="replace").strip()
        if text != "pong":
            raise self._stranger()
        return text

    def launch(
        self,
        project: str,
        artifact: Union[str, BinaryIO],
        version: Optional[str] = None,
        sha256: Optional[str] = None,
        on_progress: Optional[Progress] = None,
        retries: int = 2,
        manifest: Optional[Json] = None,
        force: bool = False,
        signature: Optional[str] = None,
    ) -> Json:
        """Upload an artifact (a path, or a seekable binary file) and wait until it runs; the agent's reply.

        `manifest` counts instead of the artifact's own; `force` tries a quarantined release of the agent; `signature` is one of
        host/sshsig.py. A broken connection is tried again `retries` times, which is safe: with the same digest a launch is
        idempotent. If the first call turns out to be under way still, it is waited for.
        """
        if isinstance(artifact, str):
            with _open_artifact(artifact) as file:
                return self.launch(project, file, version, sha256, on_progress, retries, manifest, force, signature)
        fields = {"project": parse_project(project), "sha256": sha256 or digest(artifact)}
        fields.update(_given(version=version, force="true" if force else None, signature=signature))
        target, body = "/project?" + urlencode(fields), Body(artifact, artifact.seek(0, os.SEEK_END), "application/octet-stream")
        if manifest is not None:
            target, body = "/project", form_body({**fields, "manifest": json.dumps(manifest)}, artifact)
        return self._launch(target, body, on_progress, retries)

    def launch_partial(
        self, project: str, partial: BinaryIO, sha256: str, left_out: Sequence[Sequence[Any]], version: Optional[str] = None,
        on_progress: Optional[Progress] = None, manifest: Optional[Json] = None, force: bool = False,
        signature: Optional[str] = None,
    ) -> Json:  # fmt: skip
        """Upload an artifact without the stretches `[offset, size, sha256]` that the host has; `sha256` is the whole one's."""
        fields = {"project": parse_project(project), "sha256": sha256, "left_out": json.dumps(left_out, separators=(",", ":"))}
        fields.update(_given(version=version, force="true" if force else None, signature=signature))
        fields.update(_given(manifest=json.dumps(manifest) if manifest is not None else None))
        return self._launch("/project", form_body(fields, partial), on_progress, retries=2)

    def _launch(self, target: str, body: Body, on_progress: Optional[Progress], retries: int) -> Json:
        """Send a launch, again where the connection broke; a first call that turns out to be under way is waited for."""
        lost, give_up_clock = 0, time.monotonic() + WORK_SECONDS
        while True:
            try:
                return self._json("POST", target, body, WORK_SECONDS, on_progress)
            except ConnectionLost:
                lost += 1
                if lost > retries:
                    raise
            except Conflict as error:
                if not lost or not error.members.get("under_way") or time.monotonic() > give_up_clock:
                    raise
            time.sleep(_RETRY_SECONDS * 2**lost)

    def have(self, project: str, files: Sequence[Json]) -> Json:
        """Which of the files `{"sha256", "size"}` the host lacks: `{"lacking": [SHA-256, …]}`."""
        return self._json("POST", _path(project) + "/have", _json_body({"files": files}))

    def launch_url(
        self, project: str, artifact_url: str, sha256: str, version: Optional[str] = None, manifest: Optional[Json] = None,
        force: bool = False, signature: Optional[str] = None,
    ) -> Json:  # fmt: skip
        """Let the agent itself fetch the artifact; the digest is required."""
        call: Json = {"project": parse_project(project), "artifact_url": artifact_url, "sha256": sha256}
        call.update(_given(version=version, manifest=manifest, force=force or None, signature=signature))
        return self._json("POST", "/project", _json_body(call), WORK_SECONDS)

    def logs(self, project: str) -> Download:
        """The project's logs as a tar, to be read while it arrives."""
        return Download(self._open("GET", _path(project) + "/logs"), self._exchange)

    def text(self, project: str, **query: Union[str, int, float]) -> Download:
        """What the project printed: `tail`, `since`, `until`, `grep`, `run`, `follow` as the call for logs takes them."""
        target = _path(project) + "/logs?" + urlencode({"format": "text", **query})
        return Download(self._open("GET", target, None, FOLLOW_SECONDS if "follow" in query else None), self._exchange)

    def events(self, project: Optional[str] = None, after: Optional[str] = None) -> Download:
        """What happens, as server-sent events without an end; to one project if it is named, and after the event of that id."""
        query = {**_given(project=project and parse_project(project)), **({"from": after} if after else {})}
        return Download(self._open("GET", "/events" + ("?" + urlencode(query) if query else "")), self._exchange)

    def kill(self, project: str, grace_seconds: Optional[float] = None, purge: bool = False) -> Json:
        """Kill the project's whole tree; the reply lists what was killed."""
        query = {} if grace_seconds is None else {"grace_seconds": f"{grace_seconds:g}"}
        if purge:
            query["purge"] = "true"
        return self._json("DELETE", _path(project) + ("?" + urlencode(query) if query else ""), None, WORK_SECONDS)

    def status(self, project: str) -> Json:
        """What one project is doing, and why."""
        return self._json("GET", _path(project))

    def describe(self) -> Json:
        """What every project is doing: `{"projects": […]}`."""
        return self._json("GET", "/project")

    def restart(self, project: str) -> Json:
        """End the run and start the same release again."""
        return self._json("POST", _path(project) + "/restart", None, WORK_SECONDS)

    def rollback(self, project: str, version: Optional[str] = None) -> Json:
        """Launch an older release that is still on the host; by default the one before."""
        call = {} if version is None else {"version": version}
        return self._json("POST", _path(project) + "/rollback", _json_body(call), WORK_SECONDS)

    def secrets(self, project: str) -> Json:
        """The names of the project's secrets: `{"secrets": [name, …]}`."""
        return self._json("GET", _path(project) + "/secrets")

    def set_secret(self, project: str, name: str, value: bytes) -> Json:
        """Set a secret, or replace it."""
        return self._json("PUT", _path(project, name), Body(io.BytesIO(value), len(value), "application/octet-stream"))

    def delete_secret(self, project: str, name: str) -> Json:
        """Remove a secret."""
        return self._json("DELETE", _path(project, name))

    def history(self, project: str) -> Json:
        """The project's launches, kills, exits and rollbacks, oldest first."""
        return self._json("GET", _path(project) + "/history")

    def health(self) -> Json:
        """The deep check; an agent that isn't well says so in the reply (503), which is no error here."""
        return self._json("GET", "/healthz")

    def _json(
        self, method: str, target: str, body: Optional[Body] = None, wait_seconds: Optional[float] = None,
        on_progress: Optional[Progress] = None,
    ) -> Json:  # fmt: skip
        document = _parsed(self._read(self._open(method, target, body, wait_seconds, on_progress)))
        if document is None:
            raise self._stranger()
        return document

    def _open(
        self, method: str, target: str, body: Optional[Body] = None, wait_seconds: Optional[float] = None,
        on_progress: Optional[Progress] = None,
    ) -> http.client.HTTPResponse:  # fmt: skip
        """The answer, its body still to be read; a refusal is raised. A 503 in plain JSON is an answer: `health`."""
        answer = self._exchange.call(method, target, body, wait_seconds, on_progress)
        if answer.status < 300 or (answer.status == 503 and _content_type(answer) == "application/json"):
            return answer
        raise self._refusal(answer)

    def _refusal(self, answer: http.client.HTTPResponse) -> AgentError:
        """The agent's problem document as its error; what a proxy in between says, as the nearest kind."""
        problem = _parsed(self._read(answer))
        if problem is not None and _content_type(answer) == "application/problem+json":
            return from_problem(problem)
        detail = f"{self.url} answered {answer.status} {answer.reason}, not in the way of an ant-host-agent."
        if answer.status in (502, 504):
            return Unreachable(detail, "A proxy in front of the agent does not reach it. Is the agent running?")
        kind = next((kind for kind in KINDS.values() if kind.status == answer.status), AgentError)
        return kind(detail, "Check the address (--url) and any proxy in front of the agent.")

    def _read(self, answer: http.client.HTTPResponse) -> bytes:
        with answer:
            try:
                return answer.read()
            except (OSError, http.client.HTTPException) as error:
                self._exchange.raise_lost(error)

    def _stranger(self) -> Unreachable:
        return Unreachable(f"{self.url} answered, but not as an ant-host-agent does.", "Check the address: --url.")


def digest(file: BinaryIO) -> str:
    """The SHA-256 digest of a seekable file, 64 hexadecimal digits."""
    file.seek(0)
    found = hashlib.sha256()
    for data in iter(lambda: file.read(_CHUNK_BYTES), b""):
        found.update(data)
    return found.hexdigest()


def find_local(
    environ: Mapping[str, str] = os.environ,
    url: Optional[str] = None,
    token: Optional[str] = None,
    token_file: Optional[str] = None,
    store: Optional[str] = None,
) -> Tuple[str, Optional[str]]:
    """Whom to call and with which key: what is given, else ANT_HOST_AGENT_URL, _TOKEN, …, else this host's agent.

    The key in this host's store goes to this host's agent only, never to a URL that is another one.
    UsageError for a file that can't be read.
    """
    url = url or environ.get(ENVIRONMENT_PREFIX + "URL")
    token = token or (None if token_file else environ.get(ENVIRONMENT_PREFIX + "TOKEN"))
    token_file = token_file or environ.get(ENVIRONMENT_PREFIX + "TOKEN_FILE")
    if token or token_file:
        token = token or _token(str(token_file), required=True)
    if url and token:
        return url, token
    layout = StoreLayout(os.path.abspath(store or environ.get(ENVIRONMENT_PREFIX + "STORE") or default_store(environ)))
    document = _parsed(_file(layout.config) or b"")
    local = ServeConfig.from_json({**document, "store": layout.root}) if document else None
    local_url = local.url if local else f"http://{DEFAULT_LISTEN}"
    if token or (url and url.rstrip("/") != local_url):
        return url or local_url, token
    return local_url, _token(local.token_file if local else layout.token, required=False)


def _token(path: str, required: bool) -> Optional[str]:
    data = _file(path)
    if data is None and required:
        hint = "Check --token-file or ANT_HOST_AGENT_TOKEN_FILE."
        raise UsageError(f"{path} does not exist, so there is no key.", hint)
    return data.decode(errors="replace").strip() or None if data else None


def _file(path: str) -> Optional[bytes]:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        hint = "Run this as the agent's own user (sudo), or pass --url and --token-file."
        raise UsageError(f"{path} can't be read: {reason(error)}.", hint) from error


def _open_artifact(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise UsageError(f"The artifact {path} can't be read: {reason(error)}.", "Name a file or a folder.") from error


def _given(**values: Any) -> Json:
    return {name: value for name, value in values.items() if value is not None}


def _json_body(call: Json) -> Body:
    data = json.dumps(call).encode()
    return Body(io.BytesIO(data), len(data), "application/json")


def _path(project: str, secret: Optional[str] = None) -> str:
    return "/project/" + parse_project(project) + (f"/secrets/{parse_secret_name(secret)}" if secret is not None else "")


def _content_type(answer: http.client.HTTPResponse) -> str:
    return (answer.getheader("Content-Type") or "").partition(";")[0].strip().lower()


def _parsed(data: bytes) -> Optional[Json]:
    try:
        document = json.loads(data)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
