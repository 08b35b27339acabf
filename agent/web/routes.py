"""The one table of calls: it registers with Bottle, feeds admission and describes the API.

Both shapes of a call, REST and RPC, name the same handler; a handler is a line or two that
calls the operation of the same name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Pattern, Sequence, Tuple, Union

import bottle

from agent.errors import AgentError, MethodNotAllowed, NotFound
from agent.model import parse_project, parse_version
from agent.store.logs import LogTar
from agent.web import problems
from agent.web.call import (
    Call,
    Field,
    Fields,
    flag,
    not_yet,
    read_json,
    read_query,
    require,
    seconds,
)
from agent.web.intake import RAW_FIELDS, URL_FIELDS, receive
from agent.web.services import Services

NONE, JSON, UPLOAD = "none", "json", "upload"
PING = "/ping"

#: A handler's answer: a JSON document with its status, a tar, or plain text.
Answer = Union[Tuple[int, Dict[str, Any]], LogTar, str]


@dataclass(frozen=True)
class Route:
    """One method and path. `query` and `fields`: what its query and JSON body may hold; `required`: what they must."""

    name: str
    method: str
    path: str
    handler: Callable[[Call], Answer]
    body: str = NONE
    query: Fields = field(default_factory=dict)
    fields: Fields = field(default_factory=dict)
    required: Tuple[str, ...] = ()
    lane: str = "quick"

    @property
    def pattern(self) -> Pattern[str]:
        """The path as a regular expression; `<name>` is one segment."""
        return re.compile(re.sub(r"<(\w+)>", r"(?P<\1>[^/]+)", self.path))


def ping(call: Call) -> Answer:
    return "pong"


def launch(call: Call) -> Answer:
    return call.services.operations.launch(call.services.agent, receive(call))


def logs(call: Call) -> Answer:
    return call.services.operations.tar(call.services.agent, call.values["project"])


def kill(call: Call) -> Answer:
    grace, purge = call.values.get("grace_seconds"), call.values.get("purge", False)
    return 200, call.services.operations.kill(call.services.agent, call.values["project"], grace, purge, call.caller)


def describe(call: Call) -> Answer:
    operations, project = call.services.operations, call.values.get("project")
    if project is None:
        return 200, operations.describe_all(call.services.agent)
    return 200, operations.describe(call.services.agent, project)


def restart(call: Call) -> Answer:
    return call.services.operations.restart(call.services.agent, call.values["project"], call.caller)


def rollback(call: Call) -> Answer:
    project, version = call.values["project"], call.values.get("version")
    return call.services.operations.rollback(call.services.agent, project, version, call.caller)


def history(call: Call) -> Answer:
    return 200, call.services.operations.history(call.services.agent, call.values["project"])


def health(call: Call) -> Answer:
    return call.services.operations.health(call.services.agent)


_PROJECT: Fields = {"project": Field(parse_project)}
_VERSION: Fields = {"version": Field(parse_version)}
_KILL: Fields = {"grace_seconds": seconds("grace_seconds"), "purge": flag("purge")}
_LOGS: Fields = {name: not_yet(name) for name in ("format", "tail", "since", "until", "grep", "follow", "run", "compress")}
_NAMED = ("project",)

ROUTES: Tuple[Route, ...] = (
    Route("ping", "GET", PING, ping),
    Route("ping", "POST", PING, ping),
    Route("launch", "POST", "/project", launch, UPLOAD, RAW_FIELDS, URL_FIELDS, _NAMED, "launch"),
    Route("launch", "POST", "/launch_project", launch, UPLOAD, RAW_FIELDS, URL_FIELDS, _NAMED, "launch"),
    Route("logs", "GET", "/project/<project>/logs", logs, query=_LOGS),
    Route("logs", "POST", "/get_project_logs", logs, JSON, fields={**_PROJECT, **_LOGS}, required=_NAMED),
    Route("kill", "DELETE", "/project/<project>", kill, query=_KILL, lane="kill"),
    Route("kill", "POST", "/kill_project", kill, JSON, fields={**_PROJECT, **_KILL}, required=_NAMED, lane="kill"),
    Route("describe", "GET", "/project", describe),
    Route("describe", "GET", "/project/<project>", describe),
    Route("describe", "POST", "/describe_projects", describe, JSON, fields=_PROJECT),
    Route("restart", "POST", "/project/<project>/restart", restart, lane="launch"),
    Route("rollback", "POST", "/project/<project>/rollback", rollback, JSON, fields=_VERSION, lane="launch"),
    Route("history", "GET", "/project/<project>/history", history),
    Route("health", "GET", "/healthz", health),
)


class RouteTable:
    """Finds a call by method and path, as Bottle's router does (HEAD is answered by GET's handler)."""

    def __init__(self, routes: Sequence[Route] = ROUTES) -> None:
        self._routes = [(route.pattern, route) for route in routes]

    def match(self, method: str, path: str) -> Route:
        """The route; NotFound, or MethodNotAllowed with the methods that the path takes."""
        found = [route for pattern, route in self._routes if pattern.fullmatch(path)]
        if not found:
            raise NotFound(f"There is nothing at {path[:200]!r}.", "README lists the calls; paths have no slash at the end.")
        for route in found:
            if route.method == ("GET" if method == "HEAD" else method):
                return route
        allow: List[str] = sorted({route.method for route in found} | ({"HEAD"} & {_head(route) for route in found}))
        raise MethodNotAllowed(f"{path[:200]} does not take {method[:20]}.", f"Use {' or '.join(allow)}.", allow=allow)


def _head(route: Route) -> str:
    return "HEAD" if route.method == "GET" else ""


class Application(bottle.Bottle):  # type: ignore[misc]
    """Bottle whose own errors are problem documents, too."""

    def default_error_handler(self, error: bottle.HTTPError) -> bytes:
        return _refuse(problems.from_server(error.status_code, ""))


def make_app(services: Services, routes: Sequence[Route] = ROUTES) -> Application:
    """The WSGI application."""
    app = Application()
    for route in routes:
        app.route(route.path, method=route.method, callback=_callback(services, route))
    return app


def _callback(services: Services, route: Route) -> Callable[..., Union[bytes, LogTar]]:
    def callback(**arguments: str) -> Union[bytes, LogTar]:
        try:
            with services.lanes[route.lane]:
                call = _read(services, route, arguments)
                return _respond(route.handler(call), call)
        except Exception as error:
            # an upload that was not taken is gone before its caller knows; Waitress would do it after
            bottle.request.environ["wsgi.input"].close()
            return _refuse(problems.from_exception(error))

    return callback


def _read(services: Services, route: Route, arguments: Mapping[str, str]) -> Call:
    call = Call(services, bottle.request.environ)
    if route.path == PING:
        return call
    call.values.update({name: _PROJECT[name].read(value) for name, value in arguments.items()})
    if route.body != UPLOAD:  # an upload's values come in one of three shapes: intake.py
        call.values.update(read_query(call.environ.get("QUERY_STRING", ""), route.query))
    if route.body == JSON:
        call.values.update(read_json(call.environ["wsgi.input"].read(), route.fields))
        require(call.values, route.required, "in the JSON body")
    return call


def _respond(answer: Answer, call: Call) -> Union[bytes, LogTar]:
    response = bottle.response
    response.set_header("Cache-Control", "no-store")
    if isinstance(answer, str):
        response.content_type = "text/plain"
        return answer.encode()
    if isinstance(answer, LogTar):
        response.content_type = "application/x-tar"
        response.set_header("Content-Length", str(answer.size_bytes))
        response.set_header("Content-Disposition", f'attachment; filename="{call.values["project"]}-logs.tar"')
        # itself, not wrapped: Bottle wraps it in wsgi.file_wrapper, and then Waitress's loop sends it without a worker
        return answer
    response.status = problems.status_line(answer[0])
    response.content_type = "application/json"
    return problems.to_bytes(answer[1])


def _refuse(error: AgentError) -> bytes:
    status, headers, body = problems.render(error)
    bottle.response.status = status
    for name, value in headers:
        bottle.response.set_header(name, value)
    return body
