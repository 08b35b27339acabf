"""The description of the API that the agent serves is true: the example of each call works, and is answered as it says."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Iterator, Tuple

import pytest
from pytest_httpserver import HTTPServer

from tests.support import http
from tests.support.agent import AgentHost
from tests.support.api import Description, is_endless
from tests.support.http import Response

pytestmark = [pytest.mark.e2e, pytest.mark.newest]

#: The examples tell a story, which begins and ends like this; in between the calls come as they are described.
BEGIN = ("set_secret", "secrets", "launch", "launch_project")
END = ("delete_secret", "kill", "kill_project")


@pytest.fixture(scope="module")
def description(host: AgentHost) -> Description:
    """What the agent says about its API."""
    answer = host.request("GET", "/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    return Description(answer.json)


def example_calls(
    path: str, operation: Dict[str, Any], artifact_url: str
) -> Iterator[Tuple[str, bytes | None, Dict[str, str]]]:  # fmt: skip
    """(target, body, headers) of the call as each content type has it."""
    given = {each["name"]: each for each in operation["parameters"] if "example" in each}
    path = re.sub(r"\{(\w+)\}", lambda match: str(given.pop(match[1])["example"]), path)
    query = http.query(path, {name: each["example"] for name, each in given.items()})
    if "requestBody" not in operation:
        yield query, None, {}
    for kind, content in operation.get("requestBody", {"content": {}})["content"].items():
        example = content["example"]
        if kind == "application/json":
            values = {**example, "artifact_url": artifact_url} if "artifact_url" in example else example
            yield path, json.dumps(values).encode(), {"Content-Type": kind}
        elif kind == "multipart/form-data":
            fields = {name: value for name, value in example.items() if name != "artifact"}
            body, kind = http.multipart(fields, {"artifact": ("web", example["artifact"].encode())})
            yield path, body, {"Content-Type": kind}
        else:
            yield query, example.encode(), {"Content-Type": kind}


def test_the_example_of_each_call(host: AgentHost, description: Description, httpserver: HTTPServer) -> None:
    operations = {each["operationId"]: (method, path, each) for method, path, each in description.operations()}
    assert {*BEGIN, *END} <= set(operations)
    story = [*BEGIN, *(name for name in operations if name not in BEGIN + END), *END]
    artifact = operations["launch"][2]["requestBody"]["content"]["application/octet-stream"]["example"]
    httpserver.expect_request("/web-1.4.0").respond_with_data(artifact.encode())
    answers: Dict[str, Response] = {}
    for name in story:
        method, path, operation = operations[name]
        for target, body, headers in example_calls(path, operation, httpserver.url_for("/web-1.4.0")):
            key = None if operation.get("security") == [] else ""
            answer = host.request("HEAD" if is_endless(operation) else method, target, body, headers, key=key)
            assert answer.status in (200, 201), (name, target, answer)
            description.check(operation, answer)
            answers.setdefault(name, answer)
    assert [answers[name].json["status"] for name in ("launch", "launch_project", "rollback", "kill")] == [
        "LaunchSuccessful", "AlreadyRunning", "Successful", "Successful",
    ]  # fmt: skip
    assert answers["kill_project"].json["killed"] == []
    assert answers["logs"].body == b"serving\n"
    host.kill("web", purge="true")


def test_every_call_without_a_key_is_refused_as_described(host: AgentHost, description: Description) -> None:
    for method, path, operation in description.operations():
        answer = host.request(method, re.sub(r"\{\w+\}", "web", path), key=None)
        assert answer.status == (200 if operation.get("security") == [] else 401)
        description.check(operation, answer)


def test_it_is_shown_to_every_key_and_to_nobody_without(host: AgentHost, description: Description) -> None:
    made = host.run("token", "add", "reads-the-api", "--role", "read", "--project", "web", "--store", host.store)
    assert made.returncode == 0, made
    answer = host.request("GET", "/openapi.json", key=made.stdout.decode().strip())
    assert answer.json == description.document
    assert host.request("GET", "/openapi.json", key=None).status == 401
