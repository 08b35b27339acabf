"""Nobody without a key gets further than ping; the routes are enumerated, so that a new one can't be forgotten."""

from __future__ import annotations

import base64
from typing import Callable

import pytest

from agent.web.routes import PING, ROUTES, Route
from tests.api.conftest import BEARER, TOKEN, Web, head, problem

CLOSED = [route for route in ROUTES if route.path != PING]


NO_KEYS = [
    "", "Bearer", "Bearer ", "Bearer wrong", f"Bearer {TOKEN}x", f"bearer {TOKEN}, Bearer {TOKEN}", f"Token {TOKEN}",
    "Basic !!", "Basic " + base64.b64encode(TOKEN.encode()).decode(), f"Bearer {TOKEN[:-1]}",
]  # fmt: skip


@pytest.mark.parametrize("route", CLOSED, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_wants_a_key(web: Web, route: Route) -> None:
    fixed = web.request("GET", "/nothing/here", None, {}).body
    for authorization in NO_KEYS:
        headers = {"Authorization": authorization} if authorization else {}
        answer = web.request(route.method, route.path.replace("<project>", "web"), None, headers)
        problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.body == fixed
    assert web.noted.calls == []


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
def test_a_bearer_key_opens(web: Web, scheme: str) -> None:
    assert web.request("GET", "/project", None, {"Authorization": scheme + TOKEN}).status == 200


def test_a_basic_password_opens(web: Web) -> None:
    credentials = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
    assert web.request("GET", "/project", None, {"Authorization": f"Basic {credentials}"}).status == 200


def test_two_authorization_headers_are_no_key(web: Web) -> None:
    lines = head("GET", "/project", **BEARER).replace(b"\r\n\r\n", f"\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
    assert web.raw(lines).status == 401


def test_without_auth_no_key_is_wanted(serve: Callable[..., Web]) -> None:
    assert serve(auth_required=False).request("GET", "/project", None, {}).status == 200
