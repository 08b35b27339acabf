"""The calls about secrets: how a value comes in, and that it goes nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.web.call import JSON_BYTES
from tests.api.conftest import BEARER, Web, problem

PATH = "/project/web/secrets/jwt"
JSON_TYPE = {**BEARER, "Content-Type": "application/json"}


@pytest.mark.parametrize("kind", ["", "application/octet-stream", "text/plain", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("value", [b"hunter2", b"a line\n", b"\0\xff not text", b"x" * JSON_BYTES])
def test_the_body_is_the_value_as_it_is(web: Web, kind: str, value: bytes) -> None:
    headers = {**BEARER, "Content-Type": kind} if kind else BEARER
    assert web.request("PUT", PATH, value, headers).status == 201
    assert web.noted.calls == [("put_secret", {"project": "web", "secret": "jwt", "value": value})]


def test_json_says_the_value_as_text(web: Web) -> None:
    assert web.request("PUT", PATH, json.dumps({"value": "p\u00e4ss\n"}).encode(), JSON_TYPE).status == 201
    assert web.noted.calls[0][1]["value"] == "p\u00e4ss\n".encode()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b'{"value": ""}', b'{"value": 733712}', b'{"value": null}', b'{"value": "x733712", "more": 1}', b"733712",
        b'{"value": ["733712"]}', b'{"value": "\\ud800733712"}', b'{"secret": "733712"}',
    ],
)  # fmt: skip
def test_json_without_one_value_is_refused_and_not_quoted(web: Web, body: bytes) -> None:
    answer = web.request("PUT", PATH, body, JSON_TYPE)
    problem(answer, 400)
    assert b"733712" not in answer.body
    assert web.noted.calls == []


def test_an_empty_value_is_a_mistake(web: Web) -> None:
    assert "empty" in problem(web.request("PUT", PATH, b""), 400)


def test_a_value_has_a_size(web: Web) -> None:
    problem(web.request("PUT", PATH, b"x" * (JSON_BYTES + 1)), 413)
    assert web.noted.calls == []


@pytest.mark.parametrize(
    "name",
    ["%2e%2e", "%2E", "a%2Fb", "..%2f..%2ftoken", "a%0A", "a%00", "-rf", ".hidden", "x" * 129, "%EF%BC%8E", "a%20b", "%24(id)"],
)
def test_t02_a_name_is_no_path(web: Web, name: str) -> None:
    for method in ("PUT", "DELETE"):
        answer = web.request(method, f"/project/web/secrets/{name}", b"v" if method == "PUT" else None)
        assert answer.status in (400, 404), answer
    assert web.noted.calls == []


def test_names_are_listed_and_removed(web: Web) -> None:
    assert web.request("GET", "/project/web/secrets").status == 200
    assert web.request("DELETE", PATH).status == 200
    assert web.noted.calls == [("secret_names", {"project": "web"}), ("delete_secret", {"project": "web", "secret": "jwt"})]
    problem(web.request("GET", PATH), 405)


def test_what_is_audited_is_the_name(web: Web) -> None:
    web.request("PUT", PATH, b"hunter2", {**web.add_key("ci", "deploy", "web")})
    web.request("DELETE", PATH)
    set_, deleted = web.audited()
    assert (set_["who"], set_["what"], set_["project"], set_["name"], set_["status"]) == ("ci", "set secret", "web", "jwt", 201)
    assert (deleted["what"], deleted["name"]) == ("delete secret", "jwt")
    assert "hunter2" not in Path(web.store.audit).read_text()
