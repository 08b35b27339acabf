"""Bad input: a 4xx problem document that says what to do, nothing left in staging/, no traceback."""

from __future__ import annotations

import gzip
import os
import socket
import stat
from dataclasses import dataclass
from typing import Callable, Dict, Optional, Tuple

import pytest

from tests.support import artifact, http
from tests.support.agent import AgentHost
from tests.support.http import Response
from tests.support.wait import eventually

pytestmark = pytest.mark.e2e

RAW = {"Content-Type": "application/octet-stream"}
JSON = {"Content-Type": "application/json"}
SHA = "0" * 64


@dataclass(frozen=True)
class Call:
    """One bad call. `says` has to be in detail or hint; more than one status where the design leaves it open."""

    status: Tuple[int, ...]
    says: str
    method: str
    path: str
    body: Optional[bytes] = None
    headers: Optional[Dict[str, str]] = None


CALLS: Dict[str, Call] = {
    "malformed json": Call((400,), "JSON", "POST", "/kill_project", b'{"project": ', JSON),
    "json of the wrong type": Call((400,), "object", "POST", "/kill_project", b'["x"]', JSON),
    "json with bytes that are no utf-8": Call((400,), "JSON", "POST", "/kill_project", b'{"project": "\xff"}', JSON),
    "json nested without end": Call((400,), "JSON", "POST", "/kill_project", b"[" * 60000, JSON),
    "a field of the wrong type": Call((400,), "project", "POST", "/kill_project", b'{"project": 7}', JSON),
    "a missing field": Call((400,), "project", "POST", "/kill_project", b"{}", JSON),
    "an unknown field": Call((400,), "colour", "POST", "/kill_project", b'{"project": "x", "colour": 1}', JSON),
    "a field twice": Call((400,), "project", "POST", "/kill_project", b'{"project": "x", "project": "y"}', JSON),
    "a duration of the wrong type": Call(
        (400,), "grace_seconds", "POST", "/kill_project", b'{"project": "x", "grace_seconds": "soon"}', JSON
    ),
    "an unknown query parameter": Call((400,), "colour", "DELETE", "/project/x?colour=1"),
    "a query of the wrong type": Call((400,), "grace_seconds", "DELETE", "/project/x?grace_seconds=soon"),
    "a negative duration": Call((400,), "grace_seconds", "DELETE", "/project/x?grace_seconds=-1"),
    "a launch without a project": Call((400,), "project", "POST", "/project", b"x", RAW),
    "a launch of a bad project id": Call((400,), "project", "POST", "/project?project=Not_One", b"x", RAW),
    "a project id that climbs": Call((400,), "project", "POST", "/project?project=../../etc", b"x", RAW),
    "a project id with a line end": Call((400,), "project", "POST", "/project?project=a%0A", b"x", RAW),
    "a project id too long": Call((400,), "project", "POST", "/project?project=" + "a" * 64, b"x", RAW),
    "a bad version": Call((400,), "version", "POST", "/project?project=bad&version=a/b", b"x", RAW),
    "a version that climbs": Call((400,), "version", "POST", "/project?project=bad&version=..", b"x", RAW),
    "a bad digest": Call((400,), "sha256", "POST", "/project?project=bad&sha256=123", b"x", RAW),
    "another digest": Call((422,), "sha256", "POST", f"/project?project=bad&sha256={SHA}", b"x", RAW),
    "a digest missing for a url": Call(
        (400,), "sha256", "POST", "/project", b'{"project": "bad", "artifact_url": "http://127.0.0.1:1/"}', JSON
    ),
    "no body": Call((400, 411), "", "POST", "/project?project=bad", None, RAW),
    "an empty body": Call((400, 411, 422), "", "POST", "/project?project=bad", b"", RAW),
    "a huge json body": Call((413,), "", "POST", "/kill_project", b" " * (1 << 20), JSON),
    "no content type": Call((415, 422), "", "POST", "/project?project=bad", b"x", {}),
    "a wrong content type": Call((415,), "", "POST", "/project?project=bad", b"x", {"Content-Type": "text/html"}),
    "a form without a boundary": Call((400,), "boundary", "POST", "/project", b"x", {"Content-Type": "multipart/form-data"}),
    "a form that is none": Call((400,), "", "POST", "/project", b"what?", {"Content-Type": "multipart/form-data; boundary=b"}),
    "a wrong method": Call((405,), "POST", "PUT", "/project"),
    "a wrong method for a project": Call((405,), "DELETE", "PATCH", "/project/x"),
    "no such path": Call((404,), "/nowhere", "GET", "/nowhere"),
    "no such project": Call((404,), "unheard-of", "GET", "/project/unheard-of"),
    "a body that is no artifact": Call((422,), "", "POST", "/project?project=bad", b"just text", RAW),
    "a tar cut short": Call((422,), "", "POST", "/project?project=bad", gzip.compress(b"x" * 2000)[:30], RAW),
}


def assert_problem(host: AgentHost, answer: Response, statuses: Tuple[int, ...], says: str) -> None:
    assert answer.status in statuses, answer
    assert answer.headers["content-type"] == "application/problem+json", answer
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


@pytest.mark.parametrize("name", CALLS)
def test_a_bad_call(host: AgentHost, name: str) -> None:
    call = CALLS[name]
    answer = host.request(call.method, call.path, call.body, call.headers)
    assert_problem(host, answer, call.status, call.says)


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
    answer = host.request("POST", "/project?project=bad", make(), RAW)
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
