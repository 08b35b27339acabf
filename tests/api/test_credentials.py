"""T01: every call with every kind of key. The calls are Bottle's own, so that a route can't escape by being new."""

from __future__ import annotations

import json
from typing import Dict, FrozenSet

import pytest

from agent.web.routes import make_app
from agent.web.services import Services
from tests.api.conftest import BEARER, Web, problem
from tests.support.http import Response

NOBODY = {"none", "wrong", "expired"}
READERS = frozenset({"read", "deploy", "admin"})
DEPLOYERS = READERS - {"read"}
#: A key with the role deploy for another project than the one that the call is about.
OTHER = frozenset({"other"})

#: Who may make which call about the project `web`. A new row is a decision.
MAY: Dict[str, FrozenSet[str]] = {
    "GET /ping": READERS | OTHER | NOBODY,
    "POST /ping": READERS | OTHER | NOBODY,
    "POST /project": DEPLOYERS,
    "POST /launch_project": DEPLOYERS,
    "GET /project/<project>/logs": READERS,
    "POST /get_project_logs": READERS,
    "DELETE /project/<project>": DEPLOYERS,
    "POST /kill_project": DEPLOYERS,
    "GET /project": READERS | OTHER,
    "GET /project/<project>": READERS,
    "POST /describe_projects": READERS,
    "POST /project/<project>/restart": DEPLOYERS,
    "POST /project/<project>/rollback": DEPLOYERS,
    "POST /project/<project>/have": DEPLOYERS,
    "GET /project/<project>/secrets": READERS,
    "PUT /project/<project>/secrets/<name>": DEPLOYERS,
    "DELETE /project/<project>/secrets/<name>": DEPLOYERS,
    "GET /project/<project>/history": READERS,
    "GET /healthz": READERS,
    "GET /metrics": READERS,
    "GET /events": READERS | OTHER,
    "GET /openapi.json": READERS | OTHER,
    "GET /": READERS | OTHER,
}
#: Bodies of the calls that read one.
UPLOADS = {"POST /project", "POST /launch_project"}
BODIES = {
    "POST /get_project_logs": {"project": "web"},
    "POST /kill_project": {"project": "web"},
    "POST /describe_projects": {"project": "web"},
    "POST /project/<project>/rollback": {},
    "POST /project/<project>/have": {"files": []},
}


def routed() -> Dict[str, FrozenSet[str]]:
    """The calls that Bottle's router knows, with who may make them."""
    names = [f"{route.method} {route.rule}" for route in make_app(Services(*[None] * 7)).routes]  # type: ignore[arg-type]
    return {name: MAY.get(name, frozenset()) for name in names}


def call(web: Web, name: str, key: Dict[str, str]) -> Response:
    method, _, path = name.partition(" ")
    path = path.replace("<project>", "web").replace("<name>", "jwt")
    if name in UPLOADS:
        return web.request(method, path + "?project=web", b"x", {**key, "Content-Type": "application/octet-stream"})
    if name in BODIES:
        return web.request(method, path, json.dumps(BODIES[name]).encode(), {**key, "Content-Type": "application/json"})
    return web.request(method, path, b"value" if method == "PUT" else None, key)


def keys(web: Web) -> Dict[str, Dict[str, str]]:
    return {
        "none": {},
        "wrong": {"Authorization": "Bearer ant_admin_" + "0" * 64},
        "expired": web.add_key("expired", "admin", expires_at="2020-01-01T00:00:00.000Z"),
        "read": web.add_key("reader", "read"),
        "other": web.add_key("other", "deploy", "web2"),
        "deploy": web.add_key("deployer", "deploy"),
        "admin": BEARER,
    }


def test_t01_the_table_has_a_row_for_each_call_of_the_router() -> None:
    assert set(MAY) == set(routed())


@pytest.mark.parametrize("name", routed())
def test_t01_every_call_with_every_kind_of_key(web: Web, name: str) -> None:
    bodies = set()
    for credential, key in keys(web).items():
        answer = call(web, name, key)
        if credential in MAY[name]:
            assert answer.status not in (401, 403), (credential, answer)
            assert web.noted.calls or answer.status == 200, (credential, answer)
        else:
            problem(answer, 401 if credential in NOBODY else 403)
            assert web.noted.calls == [] and web.noted.artifacts == [] and web.staged() == [], credential
            if credential in NOBODY:
                bodies.add(answer.body)
        web.noted.calls.clear()
        web.noted.artifacts.clear()
    assert len(bodies) <= 1, "the answer to nobody tells something"
