"""Bad input: a 4xx problem document that says what to do, nothing left in staging/, no traceback."""

from __future__ import annotations

import gzip
import json
import os
import socket
import stat
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Tuple

import pytest

from tests.support import artifact, http
from tests.support.agent import AgentHost
from tests.support.api import Description
from tests.support.http import Response
from tests.support.wait import eventually

pytestmark = pytest.mark.e2e

RAW = {"Content-Type": "application/octet-stream"}
JSON = {"Content-Type": "application/json"}
SHA = "0" * 64


@dataclass(frozen=True)
class Call:
    """One bad call. `says` has to be in detail or hint. `{launch}` in its path stands for both shapes of a launch, `{rpc}` for
    each call that reads JSON; more than one status where the design leaves it open."""

    status: Tuple[int, ...]
    says: str
    method: str
    path: str
    body: Optional[bytes] = None
    headers: Optional[Dict[str, str]] = None

    def paths(self) -> List[str]:
        """Every path that this is a bad call of."""
        shapes = {
            "{launch}": ("/project", "/launch_project"),
            "{rpc}": ("/kill_project", "/get_project_logs", "/describe_projects"),
        }
        for name, paths in shapes.items():
            if name in self.path:
                return [self.path.replace(name, path) for path in paths]
        return [self.path]


def json_call(says: str, body: bytes, path: str = "{rpc}", status: int = 400) -> Call:
    return Call((status,), says, "POST", path, body, JSON)


def raw_launch(says: str, query: str, status: int = 400) -> Call:
    return Call((status,), says, "POST", "{launch}?" + query, b"x", RAW)


def url_launch(says: str, **values: object) -> Call:
    return json_call(says, json.dumps({"project": "bad", "sha256": SHA, **values}).encode(), "{launch}")


def form_launch(says: str, fields: Dict[str, str], status: int = 400, **files: bytes) -> Call:
    body, kind = http.multipart(fields, {name: (name, content) for name, content in files.items()})
    return Call((status,), says, "POST", "{launch}", body, {"Content-Type": kind})


CALLS: Dict[str, Call] = {
    "malformed json": json_call("JSON", b'{"project": '),
    "json of the wrong type": json_call("object", b'["x"]'),
    "json with bytes that are no utf-8": json_call("JSON", b'{"project": "\xff"}'),
    "json in utf-16": json_call("JSON", '{"project": "bad"}'.encode("utf-16")),
    "json with a nul": json_call("JSON", b'{"project": "a\0"}'),
    "json nested without end": json_call("JSON", b"[" * 60000),
    "json objects nested without end": json_call("JSON", b'{"a":' * 12000),
    "json with more behind it": json_call("JSON", b'{"project": "bad"}{}'),
    "a number that is none": json_call("NaN", b'{"project": "x", "grace_seconds": NaN}'),
    "a field of the wrong type": json_call("project", b'{"project": 7}'),
    "a field that is null": json_call("project", b'{"project": null}'),
    "a project that is half a character": json_call("project", b'{"project": "\\ud800"}'),
    "a missing field": json_call("project", b"{}", "/kill_project"),
    "a missing field for logs": json_call("project", b"", "/get_project_logs"),
    "an unknown field": json_call("colour", b'{"project": "x", "colour": 1}'),
    "a field twice": json_call("project", b'{"project": "x", "project": "y"}'),
    "a bad project id in json": json_call("project", b'{"project": "Not_One"}'),
    "a bad version in json": json_call("version", b'{"version": "a/b"}', "/project/x/rollback"),
    "a duration of the wrong type": json_call("grace_seconds", b'{"project": "x", "grace_seconds": "soon"}', "/kill_project"),
    "json by another content type": Call((415,), "application/json", "POST", "{rpc}", b"{}", {"Content-Type": "text/plain"}),
    "a huge json body": json_call("", b" " * (1 << 20), status=413),
    "a bad project id in the path": Call((400,), "project", "DELETE", "/project/Not_One"),
    "a nul in the path": Call((400,), "project", "GET", "/project/a%00/logs"),
    "a path that is no utf-8": Call((400,), "UTF-8", "GET", "/project/a%ff"),
    "a percent sign and no number": Call((400,), "project", "GET", "/project/a%zz"),
    "a line end in the path": Call((400,), "project", "POST", "/project/a%0d%0aX:1/restart", b""),
    "an unknown query parameter": Call((400,), "colour", "DELETE", "/project/x?colour=1"),
    "a query parameter twice": Call((400,), "purge", "DELETE", "/project/x?purge=true&purge=false"),
    "a query of the wrong type": Call((400,), "grace_seconds", "DELETE", "/project/x?grace_seconds=soon"),
    "a query that is no utf-8": Call((400,), "query", "DELETE", "/project/x?grace_seconds=%ff"),
    "a query that is none": Call((400,), "query", "DELETE", "/project/x?purge=true&&"),
    "a negative duration": Call((400,), "grace_seconds", "DELETE", "/project/x?grace_seconds=-1"),
    "a number with a line in it": Call((400,), "grace_seconds", "DELETE", "/project/x?grace_seconds=1_0"),
    "a body where none is read": Call((400,), "body", "DELETE", "/project/x", b"{}", JSON),
    "a launch without a project": raw_launch("project", "version=1"),
    "a launch of a bad project id": raw_launch("project", "project=Not_One"),
    "a project id that climbs": raw_launch("project", "project=../../etc"),
    "a project id that climbs, encoded": raw_launch("project", "project=%2e%2e%2fetc"),
    "a project id with a line end": raw_launch("project", "project=a%0A"),
    "a project id with a nul": raw_launch("project", "project=a%00"),
    "a project id that is no utf-8": raw_launch("query", "project=%ff"),
    "a project id too long": raw_launch("project", "project=" + "a" * 64),
    "a project twice": raw_launch("project", "project=bad&project=bad"),
    "a bad version": raw_launch("version", "project=bad&version=a/b"),
    "a version that climbs": raw_launch("version", "project=bad&version=.."),
    "a bad digest": raw_launch("sha256", "project=bad&sha256=123"),
    "an unknown field of a launch": raw_launch("colour", "project=bad&colour=red"),
    "another digest": raw_launch("sha256", f"project=bad&sha256={SHA}", 422),
    "a digest missing for a url": json_call("sha256", b'{"project": "bad", "artifact_url": "http://127.0.0.1:1/"}', "{launch}"),
    "a url missing": url_launch("artifact_url"),
    "a url of a file": url_launch("artifact_url", artifact_url="file:///etc/passwd"),
    "a url with a line end": url_launch("artifact_url", artifact_url="http://127.0.0.1:1/a\r\nX: y"),
    "a url that is half a character": url_launch("artifact_url", artifact_url="http://127.0.0.1:1/\ud800"),
    "a manifest of the wrong type": url_launch("manifest", artifact_url="http://127.0.0.1:1/", manifest=[]),
    "no body": Call((400, 411), "", "POST", "{launch}?project=bad", None, RAW),
    "an empty body": Call((400, 411, 422), "", "POST", "{launch}?project=bad", b"", RAW),
    "no content type": Call((415, 422), "", "POST", "{launch}?project=bad", b"x", {}),
    "a wrong content type": Call((415,), "", "POST", "{launch}?project=bad", b"x", {"Content-Type": "text/html"}),
    "a form without a boundary": Call((400,), "boundary", "POST", "{launch}", b"x", {"Content-Type": "multipart/form-data"}),
    "a form that is none": Call((400,), "", "POST", "{launch}", b"what?", {"Content-Type": "multipart/form-data; boundary=b"}),
    "a form without a project": form_launch("project", {}, artifact=b"x"),
    "a form without an artifact": form_launch("artifact", {"project": "bad"}),
    "a form with a bad project id": form_launch("project", {"project": "Not_One"}, artifact=b"x"),
    "a form with a bad version": form_launch("version", {"project": "bad", "version": "a/b"}, artifact=b"x"),
    "a form with an unknown field": form_launch("colour", {"project": "bad", "colour": "red"}, artifact=b"x"),
    "a form with an empty artifact": form_launch("artifact", {"project": "bad"}, artifact=b""),
    "a form with another digest": form_launch("sha256", {"project": "bad", "sha256": SHA}, 422, artifact=b"x"),
    "a form with a nul in its project": form_launch("project", {"project": "bad\0"}, artifact=b"x"),
    "a wrong method": Call((405,), "POST", "PUT", "/project"),
    "a wrong method for a project": Call((405,), "DELETE", "PATCH", "/project/x"),
    "a wrong method for a call": Call((405,), "POST", "GET", "/launch_project"),
    "options": Call((405,), "GET", "OPTIONS", "/project/x"),
    "no such path": Call((404,), "/nowhere", "GET", "/nowhere"),
    "a slash too many": Call((404,), "slash", "GET", "/project/x/"),
    "no such project": Call((404,), "unheard-of", "GET", "/project/unheard-of"),
    "no such project to kill": json_call("unheard-of", b'{"project": "unheard-of"}', status=404),
    "a body that is no artifact": Call((422,), "", "POST", "{launch}?project=bad", b"just text", RAW),
    "a tar cut short": Call((422,), "", "POST", "{launch}?project=bad", gzip.compress(b"x" * 2000)[:30], RAW),
}


def assert_problem(host: AgentHost, answer: Response, statuses: Tuple[int, ...], says: str) -> None:
    assert answer.status in statuses, answer
    assert answer.headers["content-type"] == "application/problem+json", answer
    assert answer.status != 405 or answer.headers["allow"]
    problem = answer.json
    assert problem["status"] == answer.status
    assert problem["type"]
    assert problem["title"]
    assert problem["detail"]
    assert problem["hint"]
    assert says in problem["detail"] + problem["hint"]
    assert "Traceback" not in answer.body.decode()
    assert host.staging() == []
    assert "bad" not in host.projects()
    assert "Traceback" not in host.output() + host.project_output("ant-host-agent").decode()


@pytest.fixture(scope="module")
def description(host: AgentHost) -> Description:
    """What the agent says about its API."""
    return Description(host.request("GET", "/openapi.json").json)


@pytest.mark.parametrize("name", CALLS)
def test_a_bad_call(host: AgentHost, description: Description, name: str) -> None:
    call = CALLS[name]
    for path in call.paths():
        answer = host.request(call.method, path, call.body, call.headers)
        assert_problem(host, answer, call.status, call.says)
        operation = description.find(call.method, path)
        if operation is not None:
            description.check(operation, answer)


def folder(name: str) -> bytes:
    return artifact.encode(artifact.read_project(name), "tar.gz")


ARTIFACTS: Dict[str, Tuple[Callable[[], bytes], str]] = {
    "no entry point": (lambda: folder("no_entry_point"), "run.sh"),
    "a crlf shebang": (lambda: folder("crlf_shebang"), "CRLF"),
    "a missing interpreter": (lambda: folder("missing_interpreter"), "/opt/no-such-interpreter/bin/zsh"),
    "a single file for another cpu": (lambda: artifact.elf(artifact.wrong_machine()), artifact.wrong_machine()),
    "a program for another cpu": (
        lambda: artifact.encode({"bad": (artifact.elf(artifact.wrong_machine()), 0o755)}, "zip"),
        artifact.wrong_machine(),
    ),
    "a manifest that is no json": (lambda: with_manifest(b"{"), "anthill.json"),
    "a manifest with a bad value": (lambda: with_manifest(b'{"stop": {"grace_seconds": "long"}}'), "grace_seconds"),
    "a manifest with a bad signal": (lambda: with_manifest(b'{"stop": {"signal": "SIGNAL"}}'), "signal"),
    "a command that is not there": (lambda: with_manifest(b'{"command": ["./not-there"]}'), "not-there"),
    "an archive that climbs": (lambda: artifact.encode({"../outside": (b"x", 0o644)}, "tar"), "outside"),
    "a tar with a broken stream": (lambda: folder("hello")[:-20], ""),
}


def with_manifest(manifest: bytes) -> bytes:
    return artifact.encode({**artifact.read_project("hello"), "anthill.json": (manifest, 0o644)}, "tar")


@pytest.mark.parametrize("name", ARTIFACTS)
def test_a_bad_artifact(host: AgentHost, name: str) -> None:
    make, says = ARTIFACTS[name]
    body, kind = http.multipart({"project": "bad"}, {"artifact": ("a", make())})
    for answer in (
        host.request("POST", "/project?project=bad", make(), RAW),
        host.request("POST", "/launch_project", body, {"Content-Type": kind}),
    ):
        assert_problem(host, answer, (422,), says)
    assert not os.path.exists(host.path("outside"))


def head(host: AgentHost, length: object) -> bytes:
    return (
        f"POST /project?project=bad HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {host.token}\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n"
    ).encode()


def test_an_upload_cut_short_leaves_nothing(host: AgentHost) -> None:
    with socket.create_connection(host.address, timeout=30) as connection:
        connection.sendall(head(host, 1_000_000) + b"\r\n" + b"x" * 100_000)
        eventually(host.staging, 10, "the upload in staging")
    eventually(lambda: not host.staging(), 10, "the end of the upload")
    assert "bad" not in host.projects()


def test_an_impossible_length_is_refused_before_its_body(host: AgentHost) -> None:
    answer = http.raw(host.address, head(host, 1 << 60) + b"\r\n")
    assert_problem(host, answer, (413, 507), "")


def test_a_refusal_comes_instead_of_100_continue(host: AgentHost) -> None:
    sent = head(host, 1 << 60) + b"Expect: 100-continue\r\n\r\n"
    assert http.raw(host.address, sent).status in (413, 507)


@pytest.mark.parametrize("length", ["-1", "x", "1, 2", "0x10"])
def test_a_length_that_is_none(host: AgentHost, length: str) -> None:
    assert http.raw(host.address, head(host, length) + b"\r\nbody").status == 400


def test_length_and_chunks_at_once(host: AgentHost) -> None:
    sent = head(host, 4) + b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
    assert http.raw(host.address, sent).status == 400


@pytest.mark.parametrize("sent", [b"\0\1\2\r\n\r\n", b"GET\r\n\r\n", b"GET /project HTTP/9.9\r\n\r\n"])
def test_bytes_that_are_no_http(host: AgentHost, sent: bytes) -> None:
    assert 400 <= http.raw(host.address, sent).status < 506
    assert host.is_answering()


def test_what_was_refused_left_no_file_behind(host: AgentHost) -> None:
    """After all of the above: only what belongs to the store."""
    names = set(os.listdir(host.store))
    assert {"staging", "projects", "token"} <= names
    assert set(os.listdir(host.path("projects"))) == {"ant-host-agent"}
    assert stat.S_IMODE(os.stat(host.path("staging")).st_mode) == 0o700
