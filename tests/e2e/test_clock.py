"""The wall clock goes back, as once a host has heard from a time server."""

from __future__ import annotations

from typing import Iterator

import pytest

from tests.support.agent import AgentHost
from tests.support.clock import bend, jump

pytestmark = [pytest.mark.e2e, pytest.mark.newest]


@pytest.fixture
def bent_host(pyz: str, python: str) -> Iterator[AgentHost]:
    host = AgentHost(pyz, python)
    host.pyz = bend(pyz, host)
    with host:
        yield host


def test_releases_are_in_the_order_in_which_they_came(bent_host: AgentHost) -> None:
    for version, hours in (("1", 0), ("2", -1), ("3", -2), ("4", -3)):
        jump(bent_host, 3600.0 * hours)
        reply = bent_host.launch_fixture("web", "hello", version=version, env={"V": version}, keep_releases=3)
        assert reply.status == 201, reply
    rollback = "/project/web/rollback"
    assert bent_host.request_json("POST", rollback, {"version": "1"}).json["detail"].endswith("has no release 1 on this host.")
    assert [bent_host.request("POST", rollback).json.get("version") for _ in range(3)] == ["3", "2", None]
