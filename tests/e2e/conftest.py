"""The hosts that the end-to-end tests share, one a module and interpreter, and a project id for each test."""

from __future__ import annotations

import os
import re
import subprocess
from typing import Iterator

import pytest

from tests.conftest import NEWEST, find_interpreters
from tests.support.agent import AgentHost

#: The unprivileged user of a root test run; every Linux has it.
UNPRIVILEGED = "nobody"


@pytest.fixture(scope="module")
def host(pyz: str, python: str) -> Iterator[AgentHost]:
    """A host with a running agent, shared by the tests of one module."""
    with AgentHost(pyz, python) as agent_host:
        yield agent_host


@pytest.fixture(scope="module")
def newest_host(pyz: str) -> Iterator[AgentHost]:
    """A host with the newest Python alone, for what looks the same with each."""
    found = find_interpreters(NEWEST)
    with AgentHost(pyz, found.get(NEWEST, next(iter(found.values())))) as agent_host:
        yield agent_host


@pytest.fixture
def own_host(pyz: str, python: str) -> Iterator[AgentHost]:
    """A host for one test, which may stop and start its agent."""
    with AgentHost(pyz, python) as agent_host:
        yield agent_host


@pytest.fixture(scope="module", params=["own-user", "unprivileged"])
def any_user_host(request: pytest.FixtureRequest, pyz: str, python: str) -> Iterator[AgentHost]:
    """A host whose agent runs as the user of the test run, and one whose agent is not root."""
    user = None
    if request.param == "unprivileged" and os.geteuid() == 0:
        user = UNPRIVILEGED
        python = python if _may_run(user, python) else "/usr/bin/python3"
    with AgentHost(pyz, python, user) as agent_host:
        yield agent_host


@pytest.fixture(scope="module")
def unprivileged_host(pyz: str, python: str) -> Iterator[AgentHost]:
    """A host whose agent is an unprivileged user's, for tests that need root: the kernel's limits do not bind root."""
    with AgentHost(pyz, python if _may_run(UNPRIVILEGED, python) else "/usr/bin/python3", UNPRIVILEGED) as agent_host:
        yield agent_host


@pytest.fixture
def project(request: pytest.FixtureRequest) -> Iterator[str]:
    """A project id of this test's own, on whichever host it uses; killed afterwards."""
    slug = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower().replace("test_", "", 1)).strip("-")[:60].rstrip("-")
    hosts = [request.getfixturevalue(name) for name in request.fixturenames if name in HOSTS]
    yield slug
    for agent_host in hosts:
        if agent_host.is_answering():
            agent_host.kill(slug, grace_seconds=0)


HOSTS = ("host", "own_host", "any_user_host", "unprivileged_host")


def _may_run(user: str, python: str) -> bool:
    """Whether an interpreter, maybe below a closed home directory, can be executed by `user`."""
    try:
        return subprocess.run([python, "-I", "-c", ""], user=user, check=False).returncode == 0
    except PermissionError:
        return False
