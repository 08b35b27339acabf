"""The agent is launched like any project: the new one proves itself beside the old one, and a bad one never takes over."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from http.client import HTTPException
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from tests.support import bundles
from tests.support.agent import AGENT, AgentHost
from tests.support.artifact import pack
from tests.support.wait import eventually

pytestmark = pytest.mark.e2e

MAIN = "agent/web/main.py"
RUN = b"    server.run(control.alive)"
BAD = {
    "raises-at-import": (MAIN, b"def main(", b'raise RuntimeError("broken at import")\ndef main('),
    "hangs-at-start": (MAIN, b"    config = ", b"    time.sleep(1000)\n    config = "),
    "exits-after-3-s": (MAIN, RUN, b"    threading.Timer(3, os._exit, (9,)).start()\n" + RUN),
    "hangs-after-ready": (MAIN, RUN, b"    time.sleep(1000)"),
    "cannot-write": (
        "agent/host/files.py",
        b'    temporary = f"',
        b'    raise PermissionError(13, "no", path)\n    temporary = f"',
    ),
    "syntax-error": (MAIN, b"def main(", b"def main((:"),
}
TURN, AGENT_TURN = "agent/shim/turn.py", "agent/shim/agent_turn.py"
RESIDENT, NURSERY = "agent/shim/resident.py", "agent/shim/nursery.py"
#: Releases whose agent is sound, but whose own shim, or whose projects' shims, are not.
BAD_SHIMS = {
    "shim-raises-at-import": ("agent/shim/main.py", b"def main(", b'raise RuntimeError("broken shim")\ndef main('),
    "shim-hangs": (RESIDENT, b"    pidfd, watched, arriving", b"    signal.pause()\n    pidfd, watched, arriving"),
    "shim-raises-in-its-loop": (RESIDENT, b"    poll = select.poll()\n", b"    1 / 0\n    poll = select.poll()\n"),
    "shim-raises-in-turns": (TURN, b"        self.want = read_want", b"        1 / 0\n        self.want = read_want"),
    "shim-cannot-fork": (NURSERY, b"os.fork()", b"int('no forks')"),
    "shim-of-projects-hangs": ("agent/shim/main.py", b"        os.setsid()", b"        signal.pause()\n        os.setsid()"),
    "shim-cannot-adopt": (AGENT_TURN, b"        if self.record.pid is not None:\n", b"        if 1 / (not self.record.pid):\n"),
    "shim-cannot-stop": (AGENT_TURN, b"        super()._begin_stop(reason)", b"        1 / 0"),
}
#: What is broken is refused anyway, and sooner.
HASTE = ("agent/operations/shim_proof.py", b"_SECONDS = 20.0", b"_SECONDS = 4.0")


#: An agent that ends once it is the only one.
END_AT_WORK = b"""

def _end_at_work(agent):
    while os.environ.get("PROVE") != shim_proof.ALONE:
        record = agent.handle(AGENT_PROJECT).record()
        if record.pid == os.getpid() and record.successor is None:
            os._exit(9)
        time.sleep(0.05)
"""


@pytest.fixture
def upgradable(pyz: str) -> Iterator[AgentHost]:
    """An agent of its own on the default Python, with one project."""
    with AgentHost(pyz, os.path.realpath(sys.executable)) as agent_host:
        assert agent_host.launch_fixture("hello", "hello").status == 201
        yield agent_host


@contextlib.contextmanager
def _pings(host: AgentHost) -> Iterator[List[str]]:
    """Ping on new connections all the time; what failed."""
    failures: List[str] = []
    ended = threading.Event()

    def ping() -> None:
        while not ended.wait(0.02):
            try:
                response = host.request("GET", "/ping")
                if response.status != 200:
                    failures.append(str(response.status))
            except OSError as error:
                failures.append(repr(error))

    thread = threading.Thread(target=ping)
    thread.start()
    try:
        yield failures
    finally:
        ended.set()
        thread.join()


def _at_work(host: AgentHost) -> str:
    record = host.record(AGENT)
    return str(record["version"]) if record["state"] == "ready" else ""


def _commands(pid: int) -> str:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().decode()


def test_a_good_release_takes_over_without_a_failed_request(upgradable: AgentHost, pyz: str) -> None:
    project, agent, shim = upgradable.status("hello")["pid"], upgradable.agent_pid, upgradable.shim_pid(AGENT)
    since = upgradable.status(AGENT)["since"]
    with _pings(upgradable) as failures:
        reply = upgradable.launch(AGENT, bundles.release(pyz, upgradable.artifacts, "good"))
        assert reply.status == 201, reply.json
        eventually(lambda: "9.9-good" in _commands(shim), 30, "the shim executes the new release")
        eventually(lambda: not os.path.exists(f"/proc/{agent}"), 45, message="the old agent has drained")
    assert failures == []
    assert upgradable.status(AGENT)["version"] == "9.9-good" and upgradable.agent_pid == reply.json["pid"]
    assert upgradable.shim_pid(AGENT) == shim
    assert upgradable.status(AGENT)["since"] > since
    assert upgradable.status("hello")["pid"] == project
    assert upgradable.projects() == [AGENT, "hello"]


@pytest.mark.parametrize("name", [*BAD, *BAD_SHIMS])
def test_a_bad_release_never_takes_over(upgradable: AgentHost, pyz: str, name: str) -> None:
    project, agent, shim = upgradable.status("hello")["pid"], upgradable.agent_pid, upgradable.shim_pid(AGENT)
    path = bundles.release(pyz, upgradable.artifacts, name, *([BAD[name]] if name in BAD else [BAD_SHIMS[name], HASTE]))
    with _pings(upgradable) as failures:
        reply = upgradable.launch(AGENT, path)
        assert reply.status == 422 and reply.json["step"] in ("ready", "start", "command"), reply.json
    assert failures == []
    assert (upgradable.agent_pid, upgradable.status("hello")["pid"]) == (agent, project)
    assert upgradable.shim_pid(AGENT) == shim and "9.9-" not in _commands(shim)
    assert upgradable.projects() == [AGENT, "hello"]
    assert name in BAD or "proof of the shim" in str(reply.json["log_tail"])
    assert f"9.9-{name}" in reply.json["detail"] + reply.json["version"]
    if reply.json["step"] == "ready":
        status = upgradable.status(AGENT)
        assert f"9.9-{name} was rejected" in status["explanation"]
        (found,) = status["quarantine"].values()
        assert found["version"] == f"9.9-{name}" and found["reason"] in reply.json["detail"]
        again = upgradable.launch(AGENT, path)
        assert again.status == 409 and again.json["quarantined"] == found


def test_what_is_no_agent_is_refused(upgradable: AgentHost, pyz: str) -> None:
    agent = upgradable.agent_pid
    reply = upgradable.launch(AGENT, pack("hello", upgradable.artifacts, "tar.gz", None))
    assert reply.status == 422 and "not a release of ant-host-agent" in reply.json["detail"]
    whole = Path(pyz).read_bytes()
    for size in (len(whole) // 2, len(whole) - 10):
        cut = Path(upgradable.artifacts, "cut.pyz")
        cut.write_bytes(whole[:size])
        reply = upgradable.launch(AGENT, str(cut))
        assert reply.status == 422 and reply.json["detail"], reply.json
    assert (upgradable.agent_pid, upgradable.projects()) == (agent, [AGENT, "hello"])


def test_a_quarantined_release_is_tried_again_by_force_and_acquitted(upgradable: AgentHost, pyz: str) -> None:
    once = (MAIN, b"def main(", f"if os.path.exists({upgradable.base + '/broken'!r}):\n    sys.exit(9)\ndef main(".encode())
    path = bundles.release(pyz, upgradable.artifacts, "moody", once)
    mark = Path(upgradable.base, "broken")
    mark.touch()
    assert upgradable.launch(AGENT, path).json["exit_cause"]["code"] == 9
    mark.unlink()
    refused = upgradable.run("launch", AGENT, path, "--store", upgradable.store)
    assert refused.returncode == 4 and b"--force" in refused.stderr, refused
    assert b"9.9-moody" in upgradable.run("status", AGENT, "--store", upgradable.store).stdout
    forced = upgradable.run("launch", AGENT, path, "--force", "--store", upgradable.store)
    assert forced.returncode == 0 and b"9.9-moody is up" in forced.stdout, forced
    status = upgradable.status(AGENT)
    assert (status["version"], status["quarantine"]) == ("9.9-moody", {})


def test_a_start_with_another_file_upgrades_the_running_agent(upgradable: AgentHost, pyz: str) -> None:
    project, shim, own = upgradable.status("hello")["pid"], upgradable.shim_pid(AGENT), upgradable.pyz
    upgradable.pyz = bundles.release(pyz, upgradable.artifacts, "newer")
    with _pings(upgradable) as failures:
        started = upgradable.run("serve", "--store", upgradable.store)
    assert started.returncode == 0, started
    assert b"9.9-newer is up" in started.stdout and str(shim).encode() in started.stderr
    assert failures == []
    again = upgradable.run("serve", "--store", upgradable.store)
    assert again.returncode == 3 and str(shim).encode() in again.stderr, again
    upgradable.pyz = own
    assert upgradable.status(AGENT)["version"] == "9.9-newer" and upgradable.status("hello")["pid"] == project


def test_a_successor_that_somebody_kills_is_not_quarantined(upgradable: AgentHost, pyz: str) -> None:
    agent, path = upgradable.agent_pid, bundles.release(pyz, upgradable.artifacts, "good")
    replies: List[Any] = []
    caller = threading.Thread(target=lambda: replies.append(upgradable.launch(AGENT, path)))
    caller.start()
    successor = eventually(lambda: upgradable.record(AGENT)["successor"], 30, "the proof is under way")
    os.kill(successor["pid"], signal.SIGKILL)
    caller.join()
    assert (replies[0].status, replies[0].json["exit_cause"]["signal"]) == (503, 9), replies[0].json
    assert upgradable.status(AGENT)["quarantine"] == {}
    assert (upgradable.agent_pid, upgradable.projects()) == (agent, [AGENT, "hello"])
    assert upgradable.launch(AGENT, path).status == 201


def test_the_old_agent_may_die_in_the_middle_of_a_proof(upgradable: AgentHost, pyz: str) -> None:
    path = bundles.release(pyz, upgradable.artifacts, "good")

    def launch() -> None:
        with contextlib.suppress(OSError, HTTPException):  # the agent that was asked is killed
            upgradable.launch(AGENT, path)

    caller = threading.Thread(target=launch)
    caller.start()
    successor = eventually(lambda: upgradable.record(AGENT)["successor"], 30, "the proof is under way")
    upgradable.crash_agent()
    caller.join()
    eventually(lambda: _at_work(upgradable) == "9.9-good", 60, lambda: f"it takes over: {upgradable.record(AGENT)}")
    assert upgradable.agent_pid == successor["pid"]
    eventually(lambda: os.readlink(upgradable.path("projects", AGENT, "current")) == "releases/9.9-good", 30, "it is current")


def test_a_quarantined_file_is_not_what_a_start_runs(upgradable: AgentHost, pyz: str) -> None:
    version, own = upgradable.status(AGENT)["version"], upgradable.pyz
    bad = bundles.release(pyz, upgradable.artifacts, "bad", BAD["raises-at-import"])
    assert upgradable.launch(AGENT, bad).status == 422
    upgradable.stop()
    upgradable.pyz = bad
    upgradable.start()
    assert "9.9-bad failed on this host" in upgradable.output()
    assert upgradable.status(AGENT)["version"] == version
    upgradable.pyz = own


def test_a_release_that_ends_in_its_probation_is_reverted(upgradable: AgentHost, pyz: str) -> None:
    version = upgradable.status(AGENT)["version"]
    late = (MAIN, RUN, b"    threading.Thread(target=_end_at_work, args=(agent,), daemon=True).start()\n" + RUN)
    path = bundles.release(pyz, upgradable.artifacts, "late", late, appended=(MAIN, END_AT_WORK))
    reply = upgradable.launch(AGENT, path)
    assert reply.status == 201, reply.json
    with _pings(upgradable) as failures:
        eventually(lambda: _at_work(upgradable) == version, 30, message="the old release is back")
    assert len(failures) <= 1  # what was in flight when it ended
    eventually(lambda: b"9.9-late" in upgradable.read("quarantine.json"), message="it is quarantined")


def test_a_release_whose_shim_dies_after_its_proof_is_reverted(upgradable: AgentHost, pyz: str) -> None:
    """The agent is left without a shim: it starts that of the release before it, which takes the agent back, too."""
    version, project = upgradable.status(AGENT)["version"], upgradable.status("hello")["pid"]
    treacherous = b"    if 'http' in passed:\n        os._exit(9)\n    notifier = "
    path = bundles.release(pyz, upgradable.artifacts, "treacherous", ("agent/shim/main.py", b"    notifier = ", treacherous))
    with _pings(upgradable) as failures:
        assert upgradable.launch(AGENT, path).status == 201
        eventually(lambda: upgradable.status(AGENT)["quarantine"], 60, "it is quarantined")
        eventually(lambda: _at_work(upgradable) == version, 60, "the old release is back")
        eventually(lambda: upgradable.record(AGENT)["successor"] is None, 60, "the bad one has drained")
    assert failures == []
    status = upgradable.status(AGENT)
    assert status["version"] == version and "took charge" in status["quarantine"].popitem()[1]["reason"]
    assert upgradable.status("hello")["pid"] == project
    assert "9.9-" not in _commands(upgradable.shim_pid(AGENT))
    assert upgradable.launch(AGENT, path).status == 409


def test_the_shim_may_die_in_the_middle_of_a_proof(upgradable: AgentHost, pyz: str) -> None:
    agent, shim = upgradable.agent_pid, upgradable.shim_pid(AGENT)
    path = bundles.release(pyz, upgradable.artifacts, "good")
    replies: List[Any] = []
    caller = threading.Thread(target=lambda: replies.append(upgradable.launch(AGENT, path)))
    caller.start()
    eventually(lambda: b"beside" in upgradable.read("projects", AGENT, "logs", "events.jsonl"), message="the proof is under way")
    os.kill(shim, signal.SIGKILL)
    caller.join()
    assert replies[0].status in (201, 422), replies[0].json
    eventually(lambda: upgradable.record(AGENT)["shim"]["pid"] != shim, message="a new shim")
    expected = agent if replies[0].status == 422 else replies[0].json["pid"]
    assert upgradable.agent_pid == expected


def test_a_hung_agent_is_replaced(upgradable: AgentHost) -> None:
    agent = upgradable.agent_pid
    os.kill(agent, signal.SIGSTOP)
    eventually(lambda: upgradable.record(AGENT)["pid"] not in (None, agent), 40, "another agent")
    assert upgradable.request("GET", "/ping").body == b"pong"
    assert upgradable.record(AGENT)["exits"][-1]["exit_cause"]["signal"] == signal.SIGKILL
