"""The agent starts, stops and starts again; the projects do not notice."""

from __future__ import annotations

import json
import os
import signal
import stat
import zipfile
from pathlib import Path
from typing import Iterator

import pytest

from tests.support import artifact, bundles, http, processes
from tests.support.agent import AGENT, AgentHost
from tests.support.wait import eventually

pytestmark = pytest.mark.e2e


def test_sigterm_leaves_projects_running_and_a_new_start_adopts_them(own_host: AgentHost, project: str) -> None:
    pid = own_host.launch_fixture(project, "cron_like").json["pid"]
    child = processes.look(pid)
    assert child is not None
    assert own_host.stop() == 0
    assert not own_host.is_answering()
    assert processes.is_alive(child)
    own_host.start()
    status = own_host.status(project)
    assert (status["pid"], status["state"], status["restarts"]) == (pid, "ready", 0)
    woken = own_host.project_output(project).count(b"\n")
    own_host.wait_for_output(project, b"wake %d:" % (woken + 2))
    reply = own_host.kill(project)
    assert pid in [entry["pid"] for entry in reply.json["killed"]]


@pytest.mark.newest
def test_a_release_that_was_at_work_before_answers_pings_while_the_rest_of_it_is_loaded(
    pyz: str, python: str, tmp_path: Path
) -> None:
    held, top = str(tmp_path / "held"), b"from agent.config import ServeConfig\n"
    wait = b"import time\nwhile os.path.exists(%r):\n    time.sleep(0.02)\n" % held
    build = bundles.release(pyz, str(tmp_path), "held", ("agent/web/main.py", top, top + wait))
    with AgentHost(build, python) as host:
        eventually(lambda: os.path.islink(host.path("projects", AGENT, "current")), 30, "the outcome of the first start")
        host.stop()
        with open(held, "wb"):
            host.start()  # until it answers
        assert host.record(AGENT)["state"] == "running"
        os.unlink(held)
        host.wait_for_state(AGENT, "ready", deadline_seconds=30)


@pytest.mark.newest
def test_a_start_imports_from_the_copy_in_its_store_unless_others_may_write_there(own_host: AgentHost) -> None:
    own_host.stop()
    (copy,) = Path(own_host.path("projects", AGENT, "releases")).glob("*/*.pyz")
    module, said = "agent/store/keys.py", "this is the copy"  # of it the agent's shim imports nothing
    with zipfile.ZipFile(copy) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if name != module + "c"}
    with zipfile.ZipFile(copy, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data + (f"\nimport sys\nsys.stderr.write('{said}')\n".encode() if name == module else b""))
    own_host.start()
    assert said in own_host.output()
    own_host.stop()
    os.chmod(own_host.store, 0o722)
    refused = own_host.run(*own_host.serve_command()[3:])
    os.chmod(own_host.store, 0o700)
    assert refused.returncode == 2 and said.encode() not in refused.stderr, refused


def test_output_written_while_the_agent_is_down_is_kept(own_host: AgentHost, project: str) -> None:
    own_host.launch_fixture(project, "floods_logs", env={"LINES": "100000"})
    own_host.stop()
    own_host.start()
    output = own_host.wait_for_output(project, b"done\n", 30)
    assert output == b"".join(b"line %07d\n" % number for number in range(1, 100_001)) + b"done\n"


def test_a_project_that_died_while_the_agent_was_down_is_started_again(own_host: AgentHost, project: str) -> None:
    own_host.launch_fixture(project, "hello")
    own_host.stop()
    processes.kill_all([own_host.shim(project), *own_host.project_processes(project)])
    eventually(lambda: not own_host.project_processes(project))
    own_host.start()
    eventually(lambda: own_host.project_processes(project), 20, lambda: str(own_host.status(project)))
    assert own_host.wait_for_state(project, "ready")["want"] == "up"


def test_a_second_start_on_the_same_store(own_host: AgentHost) -> None:
    second = own_host.run("serve", "--store", own_host.store, "--listen", f"127.0.0.1:{http.free_port()}")
    assert second.returncode == 3, second
    assert str(own_host.shim_pid(AGENT)).encode() in second.stderr
    assert b"Traceback" not in second.stderr
    assert own_host.is_answering()


def test_a_start_on_a_port_that_is_taken(own_host: AgentHost) -> None:
    listen = "{}:{}".format(*own_host.address)
    other = os.path.join(own_host.base, "other-store")
    second = own_host.run("serve", "--store", other, "--listen", listen)
    assert (second.returncode, second.stdout) == (2, b"")
    assert second.stderr.startswith(f"ant-host-agent: --listen {listen} can't be had: process ".encode()), second.stderr
    assert b"\n  Choose another address with --listen" in second.stderr
    assert own_host.is_answering()
    assert processes.mentioning(other) == []


def test_stop(own_host: AgentHost, project: str) -> None:
    pid = own_host.launch_fixture(project, "hello").json["pid"]
    stop = own_host.run("stop", "--store", own_host.store)
    assert stop.returncode == 0, stop
    assert not own_host.is_answering()
    assert own_host.process is not None
    assert own_host.process.wait(120) == 0
    assert [process.pid for process in own_host.project_processes(project)] == [pid]
    own_host.start()


@pytest.mark.newest
def test_stop_in_the_instant_between_two_shims_waits_for_the_next(own_host: AgentHost) -> None:
    agent, shim = own_host.agent, own_host.shim(AGENT)
    os.kill(agent.pid, signal.SIGSTOP)  # the instant lasts for as long as it can't start another
    try:
        processes.kill_hard(shim)
        stop = own_host.run("stop", "--store", own_host.store, "--wait-seconds", "0.5")
        assert stop.returncode != 0 and b"names no live shim" in stop.stderr, stop
    finally:
        os.kill(agent.pid, signal.SIGCONT)
    stop = own_host.run("stop", "--store", own_host.store)
    assert stop.returncode == 0 and b"has stopped" in stop.stdout, stop
    assert not processes.is_alive(agent)
    assert not own_host.is_answering()
    own_host.start()


def test_the_store_is_closed_to_others(own_host: AgentHost) -> None:
    modes = {name: stat.S_IMODE(os.stat(own_host.path(name)).st_mode) for name in (".", "token")}
    assert modes == {".": 0o700, "token": 0o600}
    assert len(own_host.token) >= 43


def test_the_key_survives_a_restart(own_host: AgentHost) -> None:
    key = own_host.token
    own_host.stop()
    own_host.start()
    assert own_host.token == key
    assert own_host.request("GET", "/project").status == 200


def test_the_zipapp_may_go_once_the_agent_runs(own_host: AgentHost, project: str) -> None:
    os.remove(own_host.pyz)
    assert own_host.launch(project, artifact.pack("hello", own_host.artifacts)).status == 201
    own_host.crash_agent()
    assert own_host.kill(project).json["status"] == "Successful"


def documents(store: str) -> Iterator[str]:
    """The paths of all JSON in a store that is the agent's own: not what is in a release or in a project's data."""
    for folder, folders, names in os.walk(store):
        if os.path.basename(folder) in ("releases", "staging"):
            folders.clear()
        yield from (os.path.join(folder, name) for name in names if name.endswith((".json", ".jsonl")) and name != "times.jsonl")


@pytest.mark.newest
def test_everything_on_disk_names_its_schema(own_host: AgentHost) -> None:
    assert own_host.run("token", "add", "ci", "--role", "read", "--store", own_host.store).returncode == 0
    own_host.launch_fixture("crashing", "crash_loop")
    own_host.kill("crashing")
    own_host.launch_fixture("failing", "fails_at_start")
    own_host.launch_fixture("flooding", "floods_logs", logs={"segment_bytes": 262144, "segments": 50})
    own_host.wait_for_output("flooding", b"done\n", 60)
    found = {os.path.relpath(path, own_host.store): own_host.read(path) for path in documents(own_host.store)}
    assert {"config.json", "tokens.json", "audit.jsonl", "events.jsonl", "projects/crashing/history.jsonl"} <= set(found)
    lines = {path: content.splitlines() for path, content in found.items()}
    assert [path for path in lines if not all(json.loads(line)["schema"] == 1 for line in lines[path])] == []
