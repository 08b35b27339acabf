"""Artifacts in their three shapes: whatever way they come, one file with one digest, and nothing left of a bad one."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any, Dict

import pytest
from pytest_httpserver import HTTPServer

from tests.api.conftest import BEARER, RAW, Web, head, problem
from tests.support import http
from tests.support.wait import eventually

BIG = random.Random(1).randbytes(3 << 20)
DIGEST = hashlib.sha256(BIG).hexdigest()
FIELDS = {"project": "web", "version": "1.0+2"}


def form(fields: Dict[str, str], **files: bytes) -> tuple[bytes, Dict[str, str]]:
    body, kind = http.multipart(fields, {name: (f"{name}.bin", content) for name, content in files.items()})
    return body, {**BEARER, "Content-Type": kind}


def launched(web: Web) -> Dict[str, Any]:
    ((name, values),) = web.noted.calls
    assert name == "launch"
    return values


@pytest.mark.parametrize("path", ["/project", "/launch_project"])
@pytest.mark.parametrize("content", [b"x", BIG], ids=["small", "big"])
def test_a_raw_body(web: Web, path: str, content: bytes) -> None:
    digest = hashlib.sha256(content).hexdigest()
    answer = web.request("POST", f"{path}?project=web&version=1.0%2B2&sha256={digest.upper()}", content, RAW)
    assert (answer.status, answer.headers["content-type"]) == (201, "application/json"), answer
    assert answer.body.endswith(b"\n") and answer.headers["cache-control"] == "no-store"
    assert web.noted.artifacts == [content]
    assert launched(web) == {"project": "web", "version": "1.0+2", "sha256": digest, "manifest": None}


@pytest.mark.parametrize("kind", [None, "application/gzip", "application/zip", "application/x-tar", "application/octet-stream"])
def test_a_raw_body_of_any_application_type(web: Web, kind: str | None) -> None:
    headers = {**BEARER, **({"Content-Type": kind} if kind else {})}
    assert web.request("POST", "/project?project=web", b"abc", headers).status == 201
    assert launched(web)["version"] is None


def test_a_chunked_body(web: Web) -> None:
    start = head("POST", "/project?project=web", **RAW, **{"Transfer-Encoding": "chunked"})
    chunks = [BIG[i : i + 100_000] for i in range(0, len(BIG), 100_000)]
    body = b"".join(b"%x;a=b\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    assert web.raw(start + body + b"0\r\nTrailer: x\r\n\r\n").status == 201
    assert web.noted.artifacts == [BIG]


def test_only_content_length_bytes_belong_to_the_artifact(web: Web) -> None:
    with web.connect() as connection:
        connection.sendall(
            head("POST", "/project?project=web", **RAW, **{"Content-Length": "3"}) + b"abcGET /ping HTTP/1.1\r\n\r\n"
        )
        answer = b""
        while b"pong" not in answer:
            answer += connection.recv(65536)
    assert web.noted.artifacts == [b"abc"]


def test_a_multipart_body(web: Web) -> None:
    body, headers = form({**FIELDS, "sha256": DIGEST, "manifest": '{"env": {}}'}, artifact=BIG)
    assert web.request("POST", "/project", body, headers).status == 201
    assert web.noted.artifacts == [BIG]
    assert launched(web) == {**FIELDS, "sha256": DIGEST, "manifest": b'{"env": {}}'}


def test_a_multipart_body_without_what_the_host_has(web: Web) -> None:
    left_out = [[0, 5, "ab" * 32], [7, 0, "AB" * 32]]
    body, headers = form({**FIELDS, "sha256": DIGEST, "left_out": json.dumps(left_out)}, artifact=b"rest")
    assert web.request("POST", "/project", body, headers).status == 201
    assert web.noted.artifacts == [b"rest"]  # of other bytes than the digest's: the operation makes it whole
    assert launched(web)["left_out"] == [(0, 5, "ab" * 32), (7, 0, "ab" * 32)]


def test_a_multipart_manifest_may_be_a_file_and_the_artifact_come_first(web: Web) -> None:
    body, kind = http.multipart({}, {"artifact": ("a", b"--\r\n\r\nxyz\r\n"), "manifest": ("m", b"{}")})
    boundary = kind.partition("boundary=")[2].encode()
    extra = b"\r\n--%s\r\nContent-Disposition: form-data; name=project\r\n\r\nweb\r\n--%s--\r\n" % (boundary, boundary)
    whole = body.replace(b"\r\n--%s--\r\n" % boundary, extra)
    assert web.request("POST", "/project", whole, {**BEARER, "Content-Type": kind}).status == 201
    assert web.noted.artifacts == [b"--\r\n\r\nxyz\r\n"] and launched(web)["manifest"] == b"{}"


@pytest.mark.parametrize(
    ("fields", "files", "named"),
    [
        ({"project": "web"}, {}, "artifact"),
        ({"project": "web", "artifact": "text"}, {}, "artifact"),
        ({}, {"artifact": b"x"}, "project"),
        ({"project": "WEB"}, {"artifact": b"x"}, "project"),
        ({"project": "web", "version": ".."}, {"artifact": b"x"}, "version"),
        ({"project": "web", "sha256": "12"}, {"artifact": b"x"}, "sha256"),
        ({"project": "web", "colour": "red"}, {"artifact": b"x"}, "colour"),
        ({"project": "web"}, {"artifact": b"x", "second": b"y"}, "second"),
        ({"project": "web"}, {"artifact": b""}, "artifact"),
        ({"project": "web", "left_out": "[]"}, {"artifact": b"x"}, "sha256"),
        ({"project": "web", "sha256": DIGEST, "left_out": "{}"}, {"artifact": b"x"}, "left_out"),
        ({"project": "web", "sha256": DIGEST, "left_out": "[["}, {"artifact": b"x"}, "left_out"),
        ({"project": "web", "sha256": DIGEST, "left_out": '[[0, 1, "12"]]'}, {"artifact": b"x"}, "sha256"),
        ({"project": "web", "sha256": DIGEST, "left_out": "[[-1, 1]]"}, {"artifact": b"x"}, "left_out[0]"),
        ({}, {"artifact": b"x", "project": b"web"}, "project"),
    ],
)
def test_a_bad_form_gets_400_naming_the_field(web: Web, fields: Dict[str, str], files: Dict[str, bytes], named: str) -> None:
    body, headers = form(fields, **files)
    assert named in problem(web.request("POST", "/project", body, headers), 400)
    assert web.noted.calls == [] and web.staged() == []


@pytest.mark.parametrize("name", ["artifact", "project"])
def test_a_field_twice_gets_400(web: Web, name: str) -> None:
    body, kind = http.multipart({"project": "web", "project2": "web"}, {"artifact": ("a", b"x"), "artifact2": ("a", b"y")})
    other = {"artifact": "project", "project": "artifact"}[name]
    body = body.replace(b'name="%s2"' % name.encode(), b'name="%s"' % name.encode()).replace(b"%s2" % other.encode(), b"version")
    assert name in problem(web.request("POST", "/project", body, {**BEARER, "Content-Type": kind}), 400)
    assert web.staged() == []


def test_a_form_field_over_64_kib_gets_413(web: Web) -> None:
    body, headers = form({"project": "web", "manifest": "x" * 65537}, artifact=b"x")
    problem(web.request("POST", "/project", body, headers), 413)


def test_a_form_that_is_none_gets_400(web: Web) -> None:
    for kind in ("multipart/form-data", "multipart/form-data; boundary=" + "b" * 71, "multipart/form-data; boundary=x"):
        assert "multipart" in problem(web.request("POST", "/project", b"hello" * 20, {**BEARER, "Content-Type": kind}), 400)
    body, headers = form({"project": "web"}, artifact=b"x" * 100)
    assert "multipart" in problem(web.request("POST", "/project", body[:-20], headers), 400)
    assert web.staged() == []


def test_a_form_takes_no_query(web: Web) -> None:
    body, headers = form({"project": "web"}, artifact=b"x")
    assert "'version'" in problem(web.request("POST", "/project?version=1", body, headers), 400)


@pytest.mark.parametrize("shape", ["raw", "multipart"])
def test_another_digest_gets_422(web: Web, shape: str) -> None:
    if shape == "raw":
        answer = web.request("POST", f"/project?project=web&sha256={DIGEST}", b"other", RAW)
    else:
        body, headers = form({"project": "web", "sha256": DIGEST}, artifact=b"other")
        answer = web.request("POST", "/project", body, headers)
    assert DIGEST in problem(answer, 422)
    assert web.noted.calls == [] and web.staged() == []


@pytest.mark.parametrize("sent", [0, 1, 100, 70_000, len(BIG) - 1])
@pytest.mark.parametrize("shape", ["raw", "multipart", "chunked"])
def test_an_upload_cut_anywhere_leaves_nothing(web: Web, shape: str, sent: int) -> None:
    if shape == "multipart":
        body, headers = form({"project": "web"}, artifact=BIG)
        start = head("POST", "/project", **headers, **{"Content-Length": str(len(body))})
    elif shape == "raw":
        body, start = BIG, head("POST", "/project?project=web", **RAW, **{"Content-Length": str(len(BIG))})
    else:
        body = b"%x\r\n%s" % (len(BIG), BIG)
        start = head("POST", "/project?project=web", **RAW, **{"Transfer-Encoding": "chunked"})
    with web.connect() as connection:
        connection.sendall(start + body[:sent])
        eventually(lambda: len(web.staged()) == 1)
    eventually(lambda: web.staged() == [])
    eventually(lambda: len(web.server.uploads) == 0)
    assert web.noted.calls == []


def json_launch(web: Web, **document: object) -> http.Response:
    return web.request("POST", "/project", json.dumps(document).encode(), {**BEARER, "Content-Type": "application/json"})


def test_a_url(web: Web, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/web.tar").respond_with_data(BIG)
    url = httpserver.url_for("/web.tar")
    answer = json_launch(web, project="web", artifact_url=url, sha256=DIGEST, version="2", manifest={"env": {"A": "b"}})
    assert answer.status == 201, answer
    assert web.noted.artifacts == [BIG]
    assert launched(web) == {"project": "web", "version": "2", "sha256": DIGEST, "manifest": b'{"env": {"A": "b"}}'}


def test_a_url_with_another_digest_gets_422(web: Web, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/web.tar").respond_with_data(b"other")
    answer = json_launch(web, project="web", artifact_url=httpserver.url_for("/web.tar"), sha256=DIGEST)
    assert DIGEST in problem(answer, 422)
    assert web.noted.calls == [] and web.staged() == []


def test_a_url_that_is_not_there_gets_422(web: Web, httpserver: HTTPServer) -> None:
    answer = json_launch(web, project="web", artifact_url=httpserver.url_for("/none"), sha256=DIGEST)
    assert problem(answer, 422) and answer.json["step"] == "download"
    assert web.staged() == []


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"artifact_url": "http://h/", "sha256": DIGEST}, "project"),
        ({"project": "web", "sha256": DIGEST}, "artifact_url"),
        ({"project": "web", "artifact_url": "http://h/"}, "sha256"),
        ({"project": "web", "artifact_url": "file:///etc/passwd", "sha256": DIGEST}, "artifact_url"),
        ({"project": "web", "artifact_url": 5, "sha256": DIGEST}, "artifact_url"),
        ({"project": "web", "artifact_url": "http://h/", "sha256": DIGEST, "colour": "red"}, "colour"),
        ({"project": "web", "artifact_url": "http://h/", "sha256": DIGEST, "manifest": "{}"}, "manifest"),
        ({"project": 7, "artifact_url": "http://h/", "sha256": DIGEST}, "project"),
    ],
)
def test_a_bad_json_launch_gets_400_naming_the_field(web: Web, document: Dict[str, object], named: str) -> None:
    assert named in problem(json_launch(web, **document), 400)
