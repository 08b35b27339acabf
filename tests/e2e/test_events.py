"""What happens on a host is heard by who listens, and told again to who comes back."""

from __future__ import annotations

import http.client
import json
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from tests.support import artifact
from tests.support.agent import AgentHost
from tests.support.wait import eventually

pytestmark = pytest.mark.e2e


class Listener:
    """`curl -N /events?project=…`."""

    def __init__(self, host: AgentHost, project: str, last: str = "") -> None:
        self._connection = http.client.HTTPConnection(*host.address, timeout=120)
        headers = {"Authorization": f"Bearer {host.token}", **({"Last-Event-ID": last} if last else {})}
        self._connection.request("GET", f"/events?project={project}", headers=headers)
        self.answer = self._connection.getresponse()
        assert self.answer.status == 200 and self.answer.readline() == b"retry: 1000\n"
        self.last = last

    def events(self) -> Iterator[Dict[str, Any]]:
        for line in self.answer:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "id":
                self.last = value
            elif name == "data":
                yield json.loads(value)

    def until(self, wanted: str) -> List[str]:
        """The names of what is heard up to the first event of that name."""
        heard = []
        for event in self.events():
            heard.append(event["event"])
            if event["event"] == wanted:
                return heard
        raise AssertionError(f"the stream ended after {heard}")

    def close(self) -> None:
        self.answer.close()
        self._connection.close()


def test_the_life_of_a_project(host: AgentHost, project: str) -> None:
    assert host.request("GET", f"/events?project={project}").status == 404
    host.launch_fixture(project, "hello", version="1")
    listener = Listener(host, project, "0.0")  # all that there is
    assert listener.until("ready") == ["launched", "ready"]
    failing = artifact.write(b"#!/bin/sh\nexit 3\n", "failing", host.artifacts)
    assert host.launch(project, failing, version="2").status == 422
    assert listener.until("reverted") == ["exited", "exited", "reverted"]
    listener.until("ready")  # the old one again
    host.kill(project)
    assert listener.until("killed") == ["exited", "killed"]
    listener.close()


def test_a_crash_and_who_comes_back_after_the_agents_death(own_host: AgentHost, project: str) -> None:
    script = b"#!/bin/sh\nuntil [ -e $PERSIST_DIR/go ]; do sleep 0.05; done\nexit 4\n"
    own_host.launch(project, artifact.write(script, "sh", own_host.artifacts))
    listener = Listener(own_host, project, "0.0")
    assert listener.until("ready") == ["launched", "ready"]
    own_host.crash_agent()
    with pytest.raises((http.client.HTTPException, OSError, AssertionError)):
        listener.until("backoff")
    with open(own_host.path("projects", project, "data", "go"), "w"):
        again = Listener(own_host, project, listener.last)  # whatever has happened by now
    assert again.until("backoff") == ["exited", "backoff"]
    status = own_host.status(project)
    assert status["crash"]["exit_cause"]["code"] == 4 and status["crashes"][-1]["run"] == status["crash"]["run"]
    assert f"{project}/crashes/run-{status['crash']['run']}.json" in own_host.logs(project)
    for one in (listener, again):
        one.close()


@pytest.mark.newest
def test_the_command_goes_on_without_the_agent(own_host: AgentHost, project: str, tmp_path: Path) -> None:
    """One that crashes again and again is heard of each time, once."""
    manifest: Dict[str, Any] = {"readiness": {"command": "true"}, "restart": {"delay_seconds": 0.05, "max_delay_seconds": 0.1}}
    assert own_host.launch_fixture(project, "crash_loop", env={"CRASH_AFTER_SECONDS": "0.2"}, **manifest).status == 201
    with (tmp_path / "heard").open("wb") as file, (tmp_path / "said").open("wb") as said:
        command = own_host.command("events", project, "--json", "--store", own_host.store)
        listener = subprocess.Popen(command, stdout=file, stderr=said)
        try:
            for disturb in (own_host.crash_agent, lambda: (own_host.stop(), own_host.start()), lambda: None):
                before = (tmp_path / "heard").read_text().count("exited with")
                eventually(lambda told=before: (tmp_path / "heard").read_text().count("exited with") > told, 30, "it goes on")
                disturb()
        finally:
            listener.kill()
            listener.wait()
    heard = [json.loads(line) for line in (tmp_path / "heard").read_text().splitlines()[:-1]]
    runs = [event["run"] for event in heard if event["event"] == "exited"]
    assert runs == list(range(runs[0], runs[-1] + 1))
    assert {event["project"] for event in heard} == {project}
    nowhere = own_host.run("events", "nowhere", "--store", own_host.store)
    assert (nowhere.returncode, nowhere.stdout) == (4, b"") and b"status` lists" in nowhere.stderr


def test_followers_do_not_hold_up_the_agents_end(own_host: AgentHost, project: str) -> None:
    own_host.launch_fixture(project, "hello")
    listener = Listener(own_host, project)
    assert own_host.stop() == 0
    assert listener.answer.read().endswith(b"\n")  # cleanly: a chunk that is missing would be an error
    listener.close()
    own_host.start()


def test_metrics(host: AgentHost, project: str) -> None:
    host.launch_fixture(project, "hello", version="1")
    lines = host.request("GET", "/metrics").body.decode().splitlines()
    assert f'ant_host_agent_project_ready{{project="{project}"}} 1' in lines
    (memory,) = [line for line in lines if line.startswith(f'ant_host_agent_project_memory_bytes{{project="{project}"}}')]
    assert int(memory.split()[1]) > 0
    assert host.request("GET", "/metrics", key=None).status == 401
