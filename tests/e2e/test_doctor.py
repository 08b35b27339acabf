"""doctor on a host with a real agent, and on one where something is wrong."""

from __future__ import annotations

import json
import os
import socket
from typing import Any, Dict

from tests.support.agent import AGENT, AgentHost


def findings(host: AgentHost, *words: str) -> Dict[str, Any]:
    """Its findings by topic, and under "code" what it exited with."""
    done = host.run("doctor", "--store", host.store, "--json", *words, timeout_seconds=600)
    assert done.stderr == b"", done.stderr
    return {"code": done.returncode, **{finding["topic"]: finding for finding in json.loads(done.stdout)["findings"]}}


def test_a_host_that_is_well(host: AgentHost) -> None:
    found = findings(host)
    levels = {topic: found[topic]["level"] for topic in ("store", "keys", "disk", "port", "ping", "launch", "logs", "kill")}
    assert set(levels.values()) == {"ok"}, found
    assert found["code"] == 0
    assert "20000 lines" in found["logs"]["text"]
    assert host.projects() == [AGENT]  # nothing of the trial is left
    text = host.run("doctor", "--store", host.store, "--no-trial").stdout.decode()
    assert "Everything else holds on this host." in text and "20000 lines" not in text


def test_a_host_that_is_not(host: AgentHost) -> None:
    os.chmod(os.path.join(host.store, "token"), 0o644)
    try:
        found = findings(host, "--no-trial")
    finally:
        os.chmod(os.path.join(host.store, "token"), 0o600)
    assert (found["code"], found["keys"]["level"]) == (1, "bad")
    assert found["keys"]["hint"].startswith("chmod 0600 ")


def test_a_store_without_an_agent(own_host: AgentHost) -> None:
    assert own_host.stop() == 0
    found = findings(own_host)
    assert (found["code"], found["port"]["level"]) == (1, "bad")
    assert "is free" in found["port"]["text"] and "launch" not in found
    with socket.create_server(own_host.address):
        assert "Somebody else listens" in findings(own_host)["port"]["text"]
