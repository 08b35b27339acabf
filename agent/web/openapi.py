"""The description of the API for programs (OpenAPI 3.1), made from the table of calls: nothing in it is written twice."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple, Type

from agent import __version__
from agent.errors import KINDS, PROBLEM_TYPE_PREFIX, AgentError
from agent.web import problems
from agent.web.answers import ALSO, CALLS, SCHEMAS, TAR, Described
from agent.web.call import PROJECT, SECRET, Fields, Schema
from agent.web.ranges import RangeNotSatisfiable
from agent.web.route import BYTES, JSON, NONE, PING, UPLOAD, Route

_ABOUT = """\
Launches projects from build artifacts, fetches their logs, kills them. A path that answers GET answers HEAD, too. Every
refusal is a problem document (RFC 9457): `detail` says what happened, `hint` what to do. A key's role (read, deploy, admin)
and its projects decide which calls it may make; each call says which role it needs.
"""
#: Refusals of every call, and those of every call but ping.
_ANY, _KEYED = (400, 408, 413, 431, 500, 501, 503, 505), (401, 403, 421, 429, 507)
_HEADERS = {
    401: ("WWW-Authenticate", "How to send a key."),
    416: ("Content-Range", "How many bytes there are."),
    429: ("Retry-After", "Seconds until the next attempt."),
    503: ("Retry-After", "Seconds until the next attempt."),
}
_PATH: Mapping[str, Schema] = {"project": PROJECT.schema, "name": SECRET.schema}
_RAW, _FORM, _BINARY = "application/octet-stream", "multipart/form-data", {"type": "string", "format": "binary"}


def describe(routes: Sequence[Route]) -> Dict[str, Any]:
    """The whole document. KeyError for a route whose name answers.py does not know."""
    paths: Dict[str, Dict[str, Any]] = {}
    names: List[str] = []
    for route in routes:
        names.append(_operation_id(route, names))
        paths.setdefault(_path(route), {})[route.method.lower()] = {"operationId": names[-1], **_operation(route)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "ant-host-agent", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"basic": []}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "responses": dict(_problems()),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic", "description": "The key as the password, with any user name."},
            },
        },
    }


def _path(route: Route) -> str:
    return re.sub(r"<(\w+)>", r"{\1}", route.path)


def _operation_id(route: Route, taken: Sequence[str]) -> str:
    """The call's name; for its other shape the last word of the path, for its other method both."""
    candidates = (route.name, route.path.rpartition("/")[2], f"{route.method.lower()}_{route.name}")
    return next(name.replace(" ", "_") for name in candidates if name.replace(" ", "_") not in taken)


def _operation(route: Route) -> Dict[str, Any]:
    call = CALLS[route.name]
    operation: Dict[str, Any] = {"summary": call.summary, "parameters": list(_parameters(route, call))}
    if route.path == PING:
        operation["security"] = []
    else:
        operation["description"] = f"Needs a key with the role {route.role}."
    if route.body != NONE:
        contents = dict(_bodies(route, call))
        operation["requestBody"] = {"required": route.body != JSON or bool(route.required), "content": contents}
    operation["responses"] = dict(_responses(route, call))
    return operation


def _parameters(route: Route, call: Described) -> Iterator[Dict[str, Any]]:
    for name in re.findall(r"<(\w+)>", route.path):
        yield _parameter(name, "path", _PATH[name], call, required=True)
    for name, value in route.query.items():
        parameter = _parameter(name, "query", value.schema, call)
        if route.body == UPLOAD:
            needed = ", and needed then" if name in route.required else ""
            parameter["description"] = f"Only with the artifact as the raw body{needed}."
        yield parameter


def _parameter(name: str, place: str, schema: Schema, call: Described, required: bool = False) -> Dict[str, Any]:
    parameter: Dict[str, Any] = {"name": name, "in": place, "required": required, "schema": schema}
    if name in call.example:
        parameter["example"] = call.example[name]
    return parameter


def _bodies(route: Route, call: Described) -> Iterator[Tuple[str, Any]]:
    """Every shape of the body, by content type."""
    if route.body == JSON:
        yield "application/json", _body(route.fields, route.required, call, call.example)
        return
    if route.body == BYTES:
        yield _RAW, {"schema": {**_BINARY, "minLength": 1}, "example": call.example["value"]}
        value = {"value": {"type": "string", "minLength": 1}}
        schema = {"type": "object", "properties": value, "required": ["value"], "additionalProperties": False}
        yield "application/json", {"schema": schema, "example": {"value": call.example["value"]}}
        return
    yield _RAW, {"schema": _BINARY, "example": call.example["artifact"]}
    parts: Dict[str, Schema] = {name: value.schema for name, value in route.query.items()}
    parts.update(artifact=_BINARY, manifest={"type": "string", "description": "anthill.json, in place of the artifact's."})
    parts["left_out"] = {"type": "string", "description": "JSON [[offset, size, sha256], …]: what the artifact comes without."}
    yield (
        _FORM,
        {
            "schema": {"type": "object", "properties": parts, "required": ["project", "artifact"], "additionalProperties": False},
            "example": {name: call.example[name] for name in parts if name in call.example},
        },
    )
    yield "application/json", _body(route.fields, ("project", "artifact_url", "sha256"), call, call.example)


def _body(fields: Fields, required: Sequence[str], call: Described, example: Mapping[str, Any]) -> Dict[str, Any]:
    properties = {name: value.schema for name, value in fields.items()}
    schema: Dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        schema["required"] = list(required)
    return {"schema": schema, "example": {name: example[name] for name in fields if name in example}}


def _responses(route: Route, call: Described) -> Iterator[Tuple[str, Any]]:
    contents = {kind: {"schema": _answer(route, schema)} for kind, schema in call.contents.items()}
    for status in call.statuses:
        part = {TAR: contents[TAR]} if status == HTTPStatus.PARTIAL_CONTENT else contents
        yield str(status), {"description": problems.status_line(status), "content": part}
    for status in sorted({*_ANY, *_refusals(route), *call.refusals}):
        reference = {"$ref": f"#/components/responses/{status}"}
        if status in call.statuses:
            refusal = {**contents, problems.CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
            reference = {"description": problems.status_line(status), "content": refusal}  # type: ignore[dict-item]
        yield str(status), reference


def _answer(route: Route, schema: Any) -> Schema:
    if not isinstance(schema, str):
        return schema  # type: ignore[no-any-return]
    names = [schema, *filter(None, [ALSO.get(f"{route.method} {route.path}")])]
    references: List[Schema] = [{"$ref": f"#/components/schemas/{name}"} for name in names]
    return references[0] if len(references) == 1 else {"anyOf": references}


def _refusals(route: Route) -> Iterator[int]:
    """By what the call is: who may make it, what it reads, what it works on."""
    if route.path == PING:
        return
    yield from _KEYED
    if route.body != NONE:
        yield from {UPLOAD: (411, 415), JSON: (415,)}.get(route.body, ())
    if "<project>" in route.path or "project" in route.fields and route.body != UPLOAD:
        yield 404


def _problems() -> Iterator[Tuple[str, Any]]:
    """A response for each status that a refusal can have."""
    of_http: Tuple[Type[AgentError], ...] = (*KINDS.values(), *problems.KINDS, RangeNotSatisfiable)
    for status in sorted({kind.status for kind in of_http}):
        kinds = [kind for kind in of_http if kind.status == status]
        types = [PROBLEM_TYPE_PREFIX + kind.kind for kind in kinds]
        schema = {"allOf": [{"$ref": "#/components/schemas/Problem"}, {"properties": {"type": {"enum": types}}}]}
        response: Dict[str, Any] = {
            "description": " or ".join(kind.title for kind in kinds),
            "content": {problems.CONTENT_TYPE: {"schema": schema}},
        }
        if status in _HEADERS:
            name, text = _HEADERS[status]
            response["headers"] = {name: {"description": text, "schema": {"type": "string"}}}
        yield str(status), response
