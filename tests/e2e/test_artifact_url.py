"""launch with a URL: the agent fetches the artifact, and every way that can fail is the caller's to read."""

from __future__ import annotations

import threading
from typing import Dict

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request
from werkzeug import Response as Reply

from tests.support import artifact
from tests.support.agent import AgentHost
from tests.support.http import Response

pytestmark = pytest.mark.e2e


def content_of(host: AgentHost) -> bytes:
    with open(artifact.pack("hello", host.artifacts), "rb") as stream:
        return stream.read()


def launch_url(host: AgentHost, project: str, url: str, digest: str) -> Response:
    document: Dict[str, str] = {"project": project, "artifact_url": url, "sha256": digest, "version": "1"}
    return host.request_json("POST", "/project", document)


def digest_of(host: AgentHost) -> str:
    return artifact.digest(artifact.pack("hello", host.artifacts))


def assert_refused(host: AgentHost, project: str, refusal: Response, *statuses: int) -> None:
    assert refusal.status in statuses, refusal
    assert refusal.headers["content-type"] == "application/problem+json"
    assert refusal.json["detail"]
    assert refusal.json["hint"]
    assert host.staging() == []
    assert host.request("GET", f"/project/{project}").status == 404


@pytest.mark.parametrize("path", ["/project", "/launch_project"])
def test_fetched_and_launched(host: AgentHost, project: str, httpserver: HTTPServer, path: str) -> None:
    httpserver.expect_request("/a.tgz").respond_with_data(content_of(host))
    document = {"project": project, "artifact_url": httpserver.url_for("/a.tgz"), "sha256": digest_of(host)}
    reply = host.request_json("POST", path, document)
    assert reply.status == 201, reply
    assert reply.json["digest"] == digest_of(host)


def test_a_redirect_is_followed(host: AgentHost, project: str, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/latest").respond_with_data(status=302, headers={"Location": "/a.tgz"})
    httpserver.expect_request("/a.tgz").respond_with_data(content_of(host))
    assert launch_url(host, project, httpserver.url_for("/latest"), digest_of(host)).status == 201


def test_a_slow_server_is_waited_for_and_ping_is_answered(host: AgentHost, project: str, httpserver: HTTPServer) -> None:
    asked, go = threading.Event(), threading.Event()
    content = content_of(host)

    def slowly(request: Request) -> Reply:
        asked.set()
        assert go.wait(30)
        return Reply(content)

    httpserver.expect_request("/slow").respond_with_handler(slowly)
    replies = []
    caller = threading.Thread(
        target=lambda: replies.append(launch_url(host, project, httpserver.url_for("/slow"), digest_of(host)))
    )
    caller.start()
    assert asked.wait(30)
    assert host.is_answering()
    go.set()
    caller.join(30)
    assert replies[0].status == 201, replies


def test_another_digest(host: AgentHost, project: str, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/a.tgz").respond_with_data(content_of(host))
    refusal = launch_url(host, project, httpserver.url_for("/a.tgz"), "0" * 64)
    assert_refused(host, project, refusal, 422)
    assert digest_of(host) in refusal.json["detail"]


def test_not_there(host: AgentHost, project: str, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/a.tgz").respond_with_data(b"gone", status=404)
    refusal = launch_url(host, project, httpserver.url_for("/a.tgz"), digest_of(host))
    assert_refused(host, project, refusal, 422)
    assert "404" in refusal.json["detail"]


def test_cut_short(host: AgentHost, project: str, httpserver: HTTPServer) -> None:
    content = content_of(host)
    httpserver.expect_request("/a.tgz").respond_with_data(
        content[:100], headers={"Content-Length": str(len(content)), "Connection": "close"}
    )
    assert_refused(host, project, launch_url(host, project, httpserver.url_for("/a.tgz"), digest_of(host)), 422)


def test_a_redirect_loop(host: AgentHost, project: str, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/a").respond_with_data(status=302, headers={"Location": "/b"})
    httpserver.expect_request("/b").respond_with_data(status=302, headers={"Location": "/a"})
    refusal = launch_url(host, project, httpserver.url_for("/a"), digest_of(host))
    assert_refused(host, project, refusal, 422)
    assert "redirect" in refusal.json["detail"]


def test_too_large(host: AgentHost, project: str, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/a").respond_with_data(b"x", headers={"Content-Length": str(1 << 50)})
    refusal = launch_url(host, project, httpserver.url_for("/a"), digest_of(host))
    assert_refused(host, project, refusal, 413, 422, 507)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a", "http://", "no url", "http://127.0.0.1:1/a"])
def test_a_url_that_is_none_of_ours(host: AgentHost, project: str, url: str) -> None:
    assert_refused(host, project, launch_url(host, project, url, "0" * 64), 400, 422)
