"""What each call is for and what it answers, by the call's name: schemas (JSON Schema 2020-12) and an example.

The examples tell one story: `web` is launched in version 1.4.0, looked at, rolled back and killed. The tests
make each example call in turn and hold the answers against the schemas.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple

from agent.web.call import DIGEST, PROJECT, SECRET, VERSION, Schema

#: The artifact of the example: a single executable file.
EXAMPLE_ARTIFACT = "#!/bin/sh\necho serving\nexec sleep 1000000\n"
#: As what a download is sent.
TAR, TEXT, GZIP = "application/x-tar", "text/plain; charset=utf-8", "application/gzip"
METRICS, EVENTS = "text/plain; version=0.0.4; charset=utf-8", "text/event-stream"

_DIGEST = hashlib.sha256(EXAMPLE_ARTIFACT.encode()).hexdigest()
_FILE = {"sha256": _DIGEST, "size": len(EXAMPLE_ARTIFACT)}
_STATES = ("starting", "running", "ready", "backoff", "stopping", "exited", "failed")
_BYTES: Schema = {"type": "string", "format": "binary"}


def _or_null(**schema: Any) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _object(optional: Optional[Mapping[str, Schema]] = None, **required: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_WHOLE: Schema = {"type": "integer", "minimum": 0}
_TIME: Schema = {"type": "string", "format": "date-time"}
_SECONDS: Schema = {"type": "number", "minimum": 0}
_PROCESS = _object(pid=_WHOLE, command=_TEXT, signal=_TEXT)
_STEPS = _list(_object(name=_TEXT, seconds=_SECONDS))
_EXIT_CAUSE = _object(kind=_TEXT, text=_TEXT)
_END = _object(at=_TIME, run=_WHOLE, version=_or_null(type="string"), ran_seconds=_SECONDS, by_itself=_FLAG,
               exit_cause=_EXIT_CAUSE)  # fmt: skip

#: Schemas that answers share, by the name that the description gives them.
SCHEMAS: Dict[str, Schema] = {
    "Problem": _object(
        {"hint": _TEXT, "project": _TEXT, "step": _TEXT, "log_tail": _list(_TEXT)},
        type=_TEXT, title=_TEXT, status=_WHOLE, detail=_TEXT,
    ),
    "Launched": _object(
        status={"enum": ["LaunchSuccessful", "AlreadyRunning"]}, project=PROJECT.schema, version=VERSION.schema,
        digest={"type": "string", "pattern": "^[0-9a-f]{64}$"}, pid=_or_null(type="integer"), state={"enum": list(_STATES)},
        replaced=_or_null(type="string"), warnings=_list(_TEXT), steps=_STEPS,
    ),
    "Started": _object(
        status={"const": "Successful"}, project=PROJECT.schema, version=VERSION.schema, replaced=_or_null(type="string"),
        pid=_or_null(type="integer"), state={"enum": list(_STATES)},
    ),
    "Killed": _object(
        {"cancelled": VERSION.schema},  # the launch that it ended
        status={"enum": ["Successful", "NothingToKill"]}, project=PROJECT.schema, killed=_list(_PROCESS),
        survivors=_list(_PROCESS),
    ),
    "Status": _object(
        project=PROJECT.schema, want={"enum": ["up", "down"]}, state={"enum": list(_STATES)}, since=_or_null(type="string"),
        explanation=_TEXT, version=_or_null(type="string"), digest=_or_null(type="string"), pid=_or_null(type="integer"),
        started_at=_or_null(type="string"), uptime_seconds=_or_null(type="number"), run=_WHOLE, restarts=_WHOLE,
        next_start_at=_or_null(type="string"), exit_cause=_or_null(**_EXIT_CAUSE), exits=_list(_END),
        next=_or_null(**_object(action=_TEXT, at=_TIME)), cpu_seconds=_or_null(type="number"),
        memory_bytes=_or_null(type="integer"), processes=_or_null(type="integer"), log_bytes=_WHOLE,
        readiness=_or_null(type="string"), shim_pid=_or_null(type="integer"), warnings=_list(_TEXT),
    ),
    "Projects": _object(projects=_list({"$ref": "#/components/schemas/Status"})),
    "SecretChanged": _object(
        {"warnings": _list(_TEXT)}, status={"enum": ["SecretSet", "SecretReplaced", "SecretDeleted"]}, project=PROJECT.schema,
        name=SECRET.schema,
    ),
    "SecretNames": _object(project=PROJECT.schema, secrets=_list(SECRET.schema)),
    "History": _object(project=PROJECT.schema, history=_list(_object(at=_TIME, event=_TEXT))),
    "Health": _object(
        healthy=_FLAG, problems=_list(_TEXT), version=_TEXT, digest=_or_null(type="string"), agent_started_at=_TIME,
        projects=_WHOLE, checks=_object(store=_FLAG, disk=_FLAG, shims=_FLAG, keys=_FLAG), free_bytes=_WHOLE,
        reserve_bytes=_WHOLE, free_inodes=_WHOLE,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Described:
    """A call as people and programs see it. `contents`: schema by media type, where a name stands for one of SCHEMAS;
    `example`: values of the example call; `statuses`: those of success; `refusals`: those that only calls of this name have."""

    summary: str
    contents: Mapping[str, Any]
    statuses: Tuple[int, ...] = (200,)
    refusals: Tuple[int, ...] = ()
    example: Mapping[str, Any] = field(default_factory=dict)


_JSON = "application/json"
_WEB = {"project": "web"}

CALLS: Dict[str, Described] = {
    "ping": Described("Whether the agent is there. Needs no key.", {"text/plain": {"const": "pong"}}),
    "launch": Described(
        "Run a new release of a project. It ends with the release ready, or with the old one untouched and the reason.",
        {_JSON: "Launched"}, (200, 201), (409, 422),
        {
            **_WEB, "version": "1.4.0", "sha256": _DIGEST, "artifact": EXAMPLE_ARTIFACT,
            "artifact_url": "https://builds.example.com/web-1.4.0",
        },
    ),
    "logs": Described(
        "What the project printed, and what its shim noted: a tar, or with format=text the lines alone.",
        {TAR: _BYTES, TEXT: _TEXT, GZIP: _BYTES}, (200, 206), (416,), {**_WEB, "format": "text", "tail": 100},
    ),
    "kill": Described(
        "End the project's whole tree; it stays down until it is launched or restarted.", {_JSON: "Killed"}, refusals=(409,),
        example={**_WEB, "grace_seconds": 5},
    ),
    "list": Described("What every project is doing; for a limited key, its own.", {_JSON: "Projects"}),
    "describe": Described("What a project is doing, why, and what happens next.", {_JSON: "Status"}, example=_WEB),
    "restart": Described(
        "End the run and start the current release again, also after a kill.",
        {_JSON: "Started"}, refusals=(409, 422), example=_WEB,
    ),
    "rollback": Described(
        "Run an older release that is still on the host: the one named, or the one before.",
        {_JSON: "Started"}, refusals=(409, 422), example={**_WEB, "version": "1.4.0"},
    ),
    "have": Described(
        "Which of these files no release of this project on this host has; the others can be left out of the next launch.",
        {_JSON: _object(project=PROJECT.schema, lacking=_list(DIGEST.schema))}, example={**_WEB, "files": [_FILE]},
    ),
    "secrets": Described("The names of a project's secrets, never a value.", {_JSON: "SecretNames"}, example=_WEB),
    "set secret": Described(
        "Set or replace a secret; the project finds it as a file in SECRETS_DIR.", {_JSON: "SecretChanged"}, (200, 201), (409,),
        {**_WEB, "name": "jwt", "value": "s3cr3t"},
    ),
    "delete secret": Described(
        "Delete a secret.", {_JSON: "SecretChanged"}, refusals=(409,), example={**_WEB, "name": "jwt"}
    ),
    "history": Described("Launches, kills, ends and rollbacks of a project, oldest first.", {_JSON: "History"}, example=_WEB),
    "dashboard": Described("A page for people: every project, its output, and launching by hand.", {"text/html": _TEXT}),
    "health": Described("Whether this host could take a launch now: store, disk, shims, keys.", {_JSON: "Health"}, (200, 503)),
    "metrics": Described("What the projects are doing and using, for Prometheus.", {METRICS: _TEXT}),
    "events": Described(
        "What happens, as server-sent events, until the caller goes: launched, ready, exited, backoff, killed, reverted, "
        "rejected. `from`, or the header `Last-Event-ID`, goes on where a connection broke off; a limited key hears of "
        "its own projects.",
        {EVENTS: _TEXT}, refusals=(404,), example=_WEB,
    ),
    "api": Described("This description.", {_JSON: _object(openapi=_TEXT, paths={"type": "object"})}),
}  # fmt: skip
#: What a call may answer beside that, since it names a project only if it likes.
ALSO = {"POST /describe_projects": "Projects"}
