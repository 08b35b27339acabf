"""Nobody without a key gets further than ping, and nobody further than the key goes.

The routes are read from the table itself, so that a new one can't be forgotten.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest

from agent.web.route import BYTES, JSON, PING, UPLOAD, Route
from agent.web.routes import ROUTES
from tests.api.conftest import BEARER, RAW, TOKEN, Web, head, problem
from tests.support import http
from tests.support.http import Response

CLOSED = [route for route in ROUTES if route.path != PING]
each_route = pytest.mark.parametrize("route", CLOSED, ids=lambda route: f"{route.method} {route.path}")

NO_KEYS = [
    "", "Bearer", "Bearer ", "Bearer wrong", f"Bearer {TOKEN}x", f"bearer {TOKEN}, Bearer {TOKEN}", f"Token {TOKEN}",
    "Basic !!", "Basic " + base64.b64encode(TOKEN.encode()).decode(), f"Bearer {TOKEN[:-1]}", "Bearer \u00e9\u00ff",
]  # fmt: skip


def call(web: Web, route: Route, project: str, key: Dict[str, str]) -> Response:
    """The route's call about this project, as well-formed as the table says how."""
    path = re.sub(r"<\w+>", "x", route.path.replace("<project>", project))
    if route.body == UPLOAD:
        return web.request(route.method, f"{path}?project={project}", b"artifact", {**RAW, **key})
    if "project" in route.query:
        path += f"?project={project}"
    if route.body == JSON:
        values = {"project": project} if "project" in route.fields else {}
        return web.request(route.method, path, json.dumps(values).encode(), {**key, "Content-Type": "application/json"})
    return web.request(route.method, path, b"value" if route.body == BYTES else None, key)


def names_a_project(route: Route) -> bool:
    return "<project>" in route.path or "project" in {*route.fields, *route.query}


@each_route
def test_t01_every_route_wants_a_key(web: Web, route: Route) -> None:
    fixed = web.request("GET", "/nothing/here", None, {}).body
    expired = web.add_key("old", "admin", expires_at="2020-01-01T00:00:00.000Z")["Authorization"]
    for authorization in [*NO_KEYS, expired]:
        headers = {"Authorization": authorization} if authorization else {}
        answer = (
            call(web, route, "web", headers) if route.body != UPLOAD else web.request(route.method, route.path, None, headers)
        )
        problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Basic")
        assert answer.body == fixed
    assert web.noted.calls == []


@each_route
def test_t10_a_key_of_one_project_is_for_exactly_that_one(web: Web, route: Route) -> None:
    key = web.add_key("limited", "admin", "web")
    for project in ("web2", "we", "web-", "a", "ant-host-agent"):
        if names_a_project(route):
            assert f"may not work on {project}" in problem(call(web, route, project, key), 403)
        elif not route.for_limited_keys:
            assert "whole host" in problem(call(web, route, project, key), 403)
    assert web.noted.calls == [] and web.noted.artifacts == []
    if names_a_project(route):
        assert call(web, route, "web", key).status not in (401, 403)


def test_t10_the_list_of_projects_holds_only_the_key_s_own(web: Web) -> None:
    web.noted.projects = ["we", "web", "web2"]
    for method, path in (("GET", "/project"), ("POST", "/describe_projects")):
        answer = web.request(method, path, None, web.add_key(f"of-web-{method.lower()}", "read", "web"))
        assert [entry["project"] for entry in answer.json["projects"]] == ["web"]
        assert len(web.request(method, path).json["projects"]) == 3


def test_t10_no_project_is_none(web: Web) -> None:
    key = web.add_key("ci", "admin", "web")
    Path(web.store.keys).write_text(Path(web.store.keys).read_text().replace('["web"]', "[]"))
    problem(web.request("GET", "/project/web", None, key), 403)


MULTIPART: List[Tuple[str, List[str]]] = [("the project first", ["project", "artifact"]), ("last", ["artifact", "project"])]


@pytest.mark.parametrize("order", [order for _, order in MULTIPART], ids=[name for name, _ in MULTIPART])
def test_t10_a_form_s_project_is_looked_at_as_soon_as_it_is_there(web: Web, order: List[str]) -> None:
    key = web.add_key("ci", "deploy", "web")
    parts = {"project": 'name="project"\r\n\r\nweb2', "artifact": 'name="artifact"; filename="a"\r\n\r\n' + "x" * 5000}
    body = "".join(f"--b\r\nContent-Disposition: form-data; {parts[name]}\r\n" for name in order).encode()
    kind = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": str(1 << 20)}
    with web.connect() as connection:  # the end of the body never comes
        connection.sendall(head("POST", "/project", **key, **kind) + body + b"--b\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 403 ")
    assert web.noted.artifacts == [] and web.staged() == []


def test_t10_a_url_is_not_fetched_for_another_s_project(web: Web) -> None:
    key = {**web.add_key("ci", "deploy", "web"), "Content-Type": "application/json"}
    call = {"project": "web2", "artifact_url": "http://127.0.0.1:1/x", "sha256": "0" * 64}
    assert "web2" in problem(web.request("POST", "/project", json.dumps(call).encode(), key), 403)


@pytest.mark.parametrize("project", ["ant-host-agent", "ant-host-agent-canary"])
def test_the_agent_itself_is_the_admin_s(web: Web, project: str) -> None:
    deploy, admin = web.add_key("ci", "deploy"), web.add_key("boss", "admin")
    for route in CLOSED:
        if names_a_project(route):
            answer = call(web, route, project, deploy)
            assert answer.status == 403 if route.role != "read" else answer.status not in (401, 403), answer
            assert call(web, route, project, admin).status not in (401, 403)


def test_keys_are_rotated_while_the_agent_runs(web: Web) -> None:
    first, second = web.add_key("first", "read"), web.add_key("second", "read")
    assert [web.request("GET", "/project", None, key).status for key in (first, second)] == [200, 200]
    tokens = Path(web.store.keys)
    tokens.write_text(tokens.read_text().replace('"name": "first"', '"name": "renamed"'))
    assert web.request("GET", "/project", None, first).status == 200
    document = json.loads(tokens.read_text())
    tokens.write_text(json.dumps({**document, "keys": document["keys"][1:]}))
    assert [web.request("GET", "/project", None, key).status for key in (first, second)] == [401, 200]
    Path(web.store.token).write_text("a-new-admin-key")
    assert web.request("GET", "/project").status == 401
    assert web.request("GET", "/project", None, {"Authorization": "Bearer a-new-admin-key"}).status == 200


def test_a_bad_file_of_keys_opens_nothing_and_the_admin_s_still_works(web: Web) -> None:
    key = web.add_key("ci", "admin")
    Path(web.store.keys).write_text("{")
    assert [web.request("GET", "/project", None, headers).status for headers in (key, BEARER)] == [401, 200]


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
def test_a_bearer_key_opens(web: Web, scheme: str) -> None:
    assert web.request("GET", "/project", None, {"Authorization": scheme + TOKEN}).status == 200


def test_a_basic_password_opens(web: Web) -> None:
    credentials = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
    assert web.request("GET", "/project", None, {"Authorization": f"Basic {credentials}"}).status == 200


def test_t05_two_authorization_headers_are_no_key(web: Web) -> None:
    lines = head("GET", "/project", **BEARER).replace(b"\r\n\r\n", f"\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
    assert web.raw(lines).status == 401


@pytest.mark.parametrize(
    "line",
    [
        "Authorization : Bearer {}",
        "Authorization\t: Bearer {}",
        "Author\u0131zation: Bearer {}",
        "X: y\n Authorization: Bearer {}",
    ],
)
def test_t05_a_header_that_is_nearly_one_is_no_key(web: Web, line: str) -> None:
    sent = head("GET", "/project").replace(b"\r\n\r\n", f"\r\n{line.format(TOKEN)}\r\n\r\n".encode())
    assert web.raw(sent).status in (400, 401)
    assert web.noted.calls == []


def test_without_auth_no_key_is_wanted(serve: Callable[..., Web]) -> None:
    assert serve(auth_required=False).request("GET", "/project", None, {}).status == 200


def test_a_flood_of_wrong_keys_is_slowed_down_and_a_good_one_passes(web: Web) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    statuses = [web.request("GET", "/project", None, wrong).status for _ in range(200)]
    assert set(statuses[:60]) == {401}
    assert 429 in statuses
    answers = [web.request("GET", path, None, wrong) for path in ("/project", "/nothing")]
    slowed = [answer for answer in answers if answer.status == 429]
    assert slowed
    for answer in slowed:
        problem(answer, 429)
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.body == slowed[0].body
    assert web.request("GET", "/project").status == 200
    assert web.request("GET", "/project", None, {}).status == 401, "without a key nothing is guessed"
    assert http.request(web.address, "GET", "/ping").body == b"pong"


AUDITED: List[Tuple[str, str, Dict[str, Any]]] = [
    ("DELETE", "/project/web", {"what": "kill", "project": "web", "status": 200, "verdict": "done"}),
    ("POST", "/project/web/restart", {"what": "restart", "project": "web", "status": 200, "verdict": "done"}),
    ("DELETE", "/project/web?purge=1", {"what": "kill", "project": "web", "status": 400, "verdict": "malformed-request"}),
    ("DELETE", "/project/WEB", {}),
    ("GET", "/project/web", {}),
    ("GET", "/project/web/logs", {}),
    ("DELETE", "/project", {}),
]


@pytest.mark.parametrize(("method", "path", "expected"), AUDITED)
def test_what_changes_something_is_one_line_in_the_audit_log(web: Web, method: str, path: str, expected: Dict[str, Any]) -> None:
    web.request(method, path, None, web.add_key("ci", "deploy", "web"))
    lines = [{name: value for name, value in line.items() if name not in ("schema", "at")} for line in web.audited()]
    who = {"who": "ci", "role": "deploy", "from": "127.0.0.1"}
    assert lines == ([{**who, **expected}] if expected else [])


def test_a_launch_is_audited_with_its_digest(web: Web) -> None:
    assert web.request("POST", "/project?project=web&version=7", b"x", RAW).status == 201
    (line,) = web.audited()
    assert (line["who"], line["what"], line["project"], line["version"]) == ("admin", "launch", "web", "7")
    assert line["digest"] == "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    assert (line["status"], line["verdict"]) == (201, "done")


def test_what_was_forbidden_is_audited(web: Web) -> None:
    problem(web.request("DELETE", "/project/web2", None, web.add_key("ci", "deploy", "web")), 403)
    (line,) = web.audited()
    assert (line["who"], line["what"], line["project"], line["status"]) == ("ci", "kill", "web2", 403)


def test_strangers_are_audited_at_a_bounded_rate(web: Web) -> None:
    old = web.add_key("old", "admin", expires_at="2020-01-01T00:00:00.000Z")
    for headers in ({}, {"Authorization": "Bearer hunter2"}, old):
        web.request("GET", "/project/web", None, headers)
    assert [(line["who"], line["tried"]) for line in web.audited()] == [
        (None, "no key"), (None, "a wrong key"), (None, "the expired key old"),
    ]  # fmt: skip
    assert {line["what"] for line in web.audited()} == {"GET /project/web"}
    assert "hunter2" not in Path(web.store.audit).read_text()
    for _ in range(300):
        web.request("GET", "/project/web", None, {})
    assert len(web.audited()) < 100


def _remove(path: Path) -> None:
    path.unlink()


def _make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _open_to_all(path: Path) -> None:
    path.chmod(0o666)


SPOILED: Dict[str, Tuple[Callable[[Path], object], str]] = {
    "gone": (_remove, "can't be read"), "a folder": (_make_folder, "no regular file"),
    "empty": (lambda path: path.write_text("\n"), "is empty"), "two words": (lambda path: path.write_text("a b"), "one word"),
    "open to all": (_open_to_all, "by everybody"),
}  # fmt: skip


@pytest.mark.parametrize("how", SPOILED)
def test_an_admin_key_that_can_not_be_read_is_no_wrong_key(web: Web, how: str, capfd: pytest.CaptureFixture[str]) -> None:
    path, (spoil, why) = Path(web.store.token), SPOILED[how]
    other = web.add_key("other", "read")
    spoil(path)
    for _ in range(2):
        answer = web.request("GET", "/project")
        assert why in problem(answer, 503) and str(path) in answer.json["detail"] and answer.json["hint"]
    assert capfd.readouterr().err.count(f"{path} is not used") == 1
    assert web.request("GET", "/ping").body == b"pong"
    assert [web.request("GET", "/project", None, key).status for key in (other, {})] == [200, 401]
    if path.is_dir():
        path.rmdir()
    path.write_text(TOKEN)
    path.chmod(0o600)
    assert web.request("GET", "/project").status == 200
