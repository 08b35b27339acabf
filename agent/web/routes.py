"""The one table of calls: it registers with Bottle, feeds admission and describes the API.

Both shapes of a call, REST and RPC, name the same handler; a handler is a line or two that
calls the operation of the same name.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, Mapping, Sequence, Tuple, Union

import bottle

from agent.errors import AgentError
from agent.model import DEPLOY, READ
from agent.store.logtar import LogTar
from agent.web import openapi, problems
from agent.web.call import FILES, PROJECT, SECRET, VERSION, Call, Fields, flag, read_json, read_query, require, seconds
from agent.web.dashboard import DASHBOARD, Page
from agent.web.intake import RAW_FIELDS, URL_FIELDS, receive
from agent.web.log_query import FIELDS as LOG_FIELDS
from agent.web.log_query import as_tar, as_text, text_query
from agent.web.observe import EVENT_FIELDS, events, metrics
from agent.web.ranges import wanted_etag, wanted_range
from agent.web.route import BYTES, JSON, PING, UPLOAD, Answer, Content, Route
from agent.web.secret_calls import delete_secret, put_secret, secret_names
from agent.web.services import Services
from agent.web.streams import STREAM, Sending


def ping(call: Call) -> Answer:
    return "pong"


def launch(call: Call) -> Answer:
    launched = receive(call, lambda project: call.identity.require_project(project, DEPLOY, "launch"))
    return call.services.operations.launch(call.services.agent, launched)


def logs(call: Call) -> Answer:
    operations, project, query = call.services.operations, call.values["project"], text_query(call.values)
    if query is not None:
        return as_text(operations.text(call.services.agent, project, query), call)
    return as_tar(operations.tar(call.services.agent, project, wanted_etag(call.environ)), call)


def kill(call: Call) -> Answer:
    grace, purge = call.values.get("grace_seconds"), call.values.get("purge", False)
    return 200, call.services.operations.kill(call.services.agent, call.values["project"], grace, purge, call.caller)


def describe(call: Call) -> Answer:
    operations, project = call.services.operations, call.values.get("project")
    if project is None:
        reply = operations.describe_all(call.services.agent)
        if call.identity.projects is not None:
            reply["projects"] = [entry for entry in reply["projects"] if call.identity.may_see(entry["project"])]
        return 200, reply
    return 200, operations.describe(call.services.agent, project)


def restart(call: Call) -> Answer:
    return call.services.operations.restart(call.services.agent, call.values["project"], call.caller)


def rollback(call: Call) -> Answer:
    project, version = call.values["project"], call.values.get("version")
    return call.services.operations.rollback(call.services.agent, project, version, call.caller)


def have(call: Call) -> Answer:
    return 200, call.services.operations.have(call.services.agent, call.values["project"], call.values["files"])


def history(call: Call) -> Answer:
    return 200, call.services.operations.history(call.services.agent, call.values["project"])


def health(call: Call) -> Answer:
    return call.services.operations.health(call.services.agent)


def describe_api(call: Call) -> Answer:
    return 200, _description()


@functools.cache
def _description() -> Dict[str, Any]:
    return openapi.describe(ROUTES)


def dashboard(call: Call) -> Answer:
    return DASHBOARD


_PROJECT: Fields = {"project": PROJECT}
_VERSION: Fields = {"version": VERSION}
_KILL: Fields = {"grace_seconds": seconds("grace_seconds"), "purge": flag("purge")}
_IN_PATH: Fields = {**_PROJECT, "name": SECRET}
_NAMED = ("project",)

ROUTES: Tuple[Route, ...] = (
    Route("ping", "GET", PING, ping),
    Route("ping", "POST", PING, ping),
    Route("launch", "POST", "/project", launch, UPLOAD, RAW_FIELDS, URL_FIELDS, _NAMED, "launch", role=DEPLOY),
    Route("launch", "POST", "/launch_project", launch, UPLOAD, RAW_FIELDS, URL_FIELDS, _NAMED, "launch", role=DEPLOY),
    Route("logs", "GET", "/project/<project>/logs", logs, query=LOG_FIELDS, role=READ),
    Route("logs", "POST", "/get_project_logs", logs, JSON, fields={**_PROJECT, **LOG_FIELDS}, required=_NAMED, role=READ),
    Route("kill", "DELETE", "/project/<project>", kill, query=_KILL, lane="kill", role=DEPLOY),
    Route("kill", "POST", "/kill_project", kill, JSON, fields={**_PROJECT, **_KILL}, required=_NAMED, lane="kill", role=DEPLOY),
    Route("list", "GET", "/project", describe, role=READ, for_limited_keys=True),
    Route("describe", "GET", "/project/<project>", describe, role=READ),
    Route("describe", "POST", "/describe_projects", describe, JSON, fields=_PROJECT, role=READ, for_limited_keys=True),
    Route("restart", "POST", "/project/<project>/restart", restart, lane="launch", role=DEPLOY),
    Route("rollback", "POST", "/project/<project>/rollback", rollback, JSON, fields=_VERSION, lane="launch", role=DEPLOY),
    Route("have", "POST", "/project/<project>/have", have, JSON, fields={"files": FILES}, required=("files",), role=DEPLOY),
    Route("secrets", "GET", "/project/<project>/secrets", secret_names, role=READ),
    Route("set secret", "PUT", "/project/<project>/secrets/<name>", put_secret, BYTES, role=DEPLOY),
    Route("delete secret", "DELETE", "/project/<project>/secrets/<name>", delete_secret, role=DEPLOY),
    Route("history", "GET", "/project/<project>/history", history, role=READ),
    Route("health", "GET", "/healthz", health, role=READ),
    Route("metrics", "GET", "/metrics", metrics, role=READ),
    Route("events", "GET", "/events", events, query=EVENT_FIELDS, role=READ, for_limited_keys=True),
    Route("api", "GET", "/openapi.json", describe_api, role=READ, for_limited_keys=True),
    Route("dashboard", "GET", "/", dashboard, role=READ, for_limited_keys=True),
)


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
        call = Call(services, bottle.request.environ)
        try:
            with services.lanes[route.lane]:
                _read(call, route, arguments)
                answer = route.handler(call)
                _note(call, route, answer)
                return _respond(answer, call)
        except Exception as error:
            # an upload that was not taken is gone before its caller knows; Waitress would do it after
            call.environ["wsgi.input"].close()
            refusal = problems.advise(problems.from_exception(error), call.services.agent.store)
            _note(call, route, (refusal.status, {**refusal.members, "status": refusal.kind}))
            return _refuse(refusal)

    return callback


def _note(call: Call, route: Route, answer: Answer) -> None:
    """One line in the audit log for a call that changes something."""
    if route.role != READ and isinstance(answer, tuple) and route.path != PING:
        status, document = answer
        subject = {**call.values, **document}
        call.services.audit.note(route.name, call.identity, status, str(document.get("status", "done")), subject)


def _read(call: Call, route: Route, arguments: Mapping[str, str]) -> None:
    """Fill in the call's values, and make sure that the caller may work on the project among them."""
    if route.path == PING:
        return
    call.values.update({name: _IN_PATH[name].read(value) for name, value in arguments.items()})
    if route.body != UPLOAD:  # an upload's values come in one of three shapes: intake.py
        call.values.update(read_query(call.environ.get("QUERY_STRING", ""), route.query))
    if route.body == JSON:
        call.values.update(read_json(call.environ["wsgi.input"].read(), route.fields))
        require(call.values, route.required, "in the JSON body")
    if "project" in call.values:
        route.permit_project(call.identity, call.values["project"])


def _respond(answer: Answer, call: Call) -> Union[bytes, LogTar]:
    response = bottle.response
    response.set_header("Cache-Control", "no-store")
    if isinstance(answer, str):
        response.content_type = "text/plain"
        return answer.encode()
    if isinstance(answer, Page):
        response.content_type = "text/html; charset=utf-8"
        for name, value in answer.headers.items():
            response.set_header(name, value)
        return answer.body
    if isinstance(answer, Content):
        response.content_type = answer.content_type
        return answer.text.encode()
    if isinstance(answer, Sending):
        response.content_type = answer.content_type
        if answer.filename:
            response.set_header("Content-Disposition", f'attachment; filename="{answer.filename}"')
        call.environ[STREAM] = (call.services.admit(answer.stream), answer)
        return b""
    if isinstance(answer, LogTar):
        _describe_tar(answer, call)
        # itself, not wrapped: Bottle wraps it in wsgi.file_wrapper, and then Waitress's loop sends it without a worker
        return answer
    response.status = problems.status_line(answer[0])
    response.content_type = "application/json"
    return problems.to_bytes(answer[1])


def _describe_tar(tar: LogTar, call: Call) -> None:
    """Headers of a tar, made to show only the part that is asked for."""
    response, size = bottle.response, tar.size_bytes
    try:
        part = wanted_range(call.environ, size, tar.etag)
    except AgentError:
        tar.close()
        raise
    if part is not None:
        tar.restrict(*part)
        response.status = problems.status_line(206)
        response.set_header("Content-Range", f"bytes {part[0]}-{part[1] - 1}/{size}")
    response.content_type = "application/x-tar"
    response.set_header("Content-Length", str(size if part is None else part[1] - part[0]))
    response.set_header("Content-Disposition", f'attachment; filename="{call.values["project"]}-logs.tar"')
    response.set_header("Accept-Ranges", "bytes")
    response.set_header("ETag", f'"{tar.etag}"')


def _refuse(error: AgentError) -> bytes:
    status, headers, body = problems.render(error)
    bottle.response.status = status
    for name, value in headers:
        bottle.response.set_header(name, value)
    return body
