"""F10, F12: a host that runs out of descriptors, processes or threads. The agent says so, kills all the same, and recovers."""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
import socket
import subprocess
from typing import Dict, Iterator, List, Tuple

import pytest

from tests.support import processes
from tests.support.agent import AGENT, AgentHost
from tests.support.http import Response
from tests.support.wait import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.newest]

RAW = {"Content-Type": "application/octet-stream"}
_SET = """
import resource, sys
pid, kind, *new = map(int, sys.argv[1:])
print(*resource.prlimit(pid, kind, *([tuple(new)] if new else [])))
"""


def prlimit(host: AgentHost, pid: int, kind: int, *new: int) -> Tuple[int, int]:
    """The limit as it was; prlimit(2) wants to be called by the very user whose process it is."""
    account = pwd.getpwnam(host.user) if host.user else pwd.getpwuid(os.geteuid())
    command = [host.python, "-I", "-c", _SET, str(pid), str(kind), *map(str, new)]
    own = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if host.user else {}
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/", **own)  # type: ignore[call-overload]
    soft, hard = map(int, said.stdout.split())
    return soft, hard


@contextlib.contextmanager
def limited(host: AgentHost, pids: List[int], kind: int, soft: int) -> Iterator[None]:
    """Within the block these processes may have no more than that."""
    before = {pid: prlimit(host, pid, kind) for pid in pids}
    for pid, (_, hard) in before.items():
        prlimit(host, pid, kind, soft, hard)
    try:
        yield
    finally:
        for pid, limits in before.items():
            if processes.look(pid) is not None:
                prlimit(host, pid, kind, *limits)


def require_sound(answer: Response) -> None:
    """It worked, or the caller is told to come back."""
    assert answer.status in (200, 201, 503), answer
    if answer.status == 503 and answer.headers["content-type"] != "application/json":  # that is a health that says what is wrong
        assert int(answer.headers["retry-after"]) > 0 and answer.json["hint"], answer


def is_calm(host: AgentHost, pid: int) -> None:
    """The agent is the one that it was, has nothing lying about, and found nothing that it can't handle."""
    assert host.agent_pid == pid
    assert host.staging() == []
    said = host.output() + host.project_output(AGENT).decode()
    assert "Traceback" not in said and "incident" not in said


def limit_of_files(pid: int) -> str:
    with open(f"/proc/{pid}/limits", encoding="ascii") as file:
        return next(line for line in file if line.startswith("Max open files"))


@pytest.mark.slow
def test_f10_few_descriptors(host: AgentHost, project: str) -> None:
    before = host.launch_fixture(project, "hello").json["pid"]
    pid = host.agent_pid
    highest = max(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
    calls = [("GET", "/project"), ("GET", f"/project/{project}"), ("GET", "/healthz"), ("GET", f"/project/{project}/logs")]
    statuses = set()
    for more in range(2, 9):  # the limit is on their numbers: with one more, a connection can be accepted and that is all
        with limited(host, [pid], resource.RLIMIT_NOFILE, highest + more):
            assert host.is_answering()
            answers = [host.request(method, path) for method, path in calls]
            answers += [host.request("PUT", f"/project/{project}/secrets/jwt", b"value"), host.launch_fixture("few", "hello")]
            for answer in answers:
                require_sound(answer)
                statuses.add(answer.status)
            assert host.is_answering()
    assert statuses == {200, 201, 503}
    after = host.launch_fixture("few-after", "hello")
    assert after.status == 201, after
    assert limit_of_files(after.json["pid"]) == limit_of_files(before), "the agent's limit is not its projects'"
    is_calm(host, pid)


def test_f10_a_flood_while_there_are_few_descriptors(host: AgentHost) -> None:
    pid = host.agent_pid
    highest = max(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
    with limited(host, [pid], resource.RLIMIT_NOFILE, highest + 10), contextlib.ExitStack() as stack:
        for _ in range(100):
            connection = stack.enter_context(socket.create_connection(host.address, timeout=60))
            with contextlib.suppress(ConnectionError):
                connection.sendall(b"GET /project HTTP/1.1\r\nHost:")
        assert all(host.is_answering() for _ in range(10))
        require_sound(host.request("GET", "/project"))
    assert host.request("GET", "/project").status == 200
    is_calm(host, pid)


def processes_of(host: AgentHost) -> Dict[str, List[int]]:
    unpackers = [process.pid for process in processes.every() if process.parent == host.agent_pid]
    assert unpackers
    return {"agent": [host.agent_pid], "unpacker": unpackers, "shim": [host.shim_pid(AGENT)]}


@pytest.mark.needs_root
@pytest.mark.parametrize("which", ["agent", "unpacker", "shim"])
def test_f12_no_process_and_no_thread_can_be_started(unprivileged_host: AgentHost, project: str, which: str) -> None:
    host, agent = unprivileged_host, unprivileged_host.agent_pid
    assert host.launch_fixture(project, "hello").status == 201
    unpackers = processes_of(host)["unpacker"]
    eventually(lambda: [process for process in processes.every() if process.parent in unpackers], 30, "a worker that waits")
    with limited(host, processes_of(host)[which], resource.RLIMIT_NPROC, 1):
        if which == "agent":  # hashing a large upload takes a thread
            refused = host.request("POST", "/project?project=large", bytes(8 << 20), RAW)
        else:
            if which == "unpacker":  # for which that worker is enough
                assert host.launch_fixture("lucky", "hello").status == 201
            refused = host.launch_fixture("refused", "hello")
        assert refused.status == 503, refused
        require_sound(refused)
        assert host.staging() == []
        assert host.is_answering()
        killed = host.kill(project, grace_seconds=0)
        assert (killed.status, killed.json["survivors"]) == (200, []), killed
    for name in ("refused", "large"):
        assert host.request("GET", f"/project/{name}").status == 404, "what was answered with 503 is not there to start later"
    assert host.launch_fixture(project, "run_sh_only").status == 201
    is_calm(host, agent)


@pytest.mark.needs_root
def test_f12_a_project_whose_shim_can_start_no_process_is_killed(unprivileged_host: AgentHost, project: str) -> None:
    host = unprivileged_host
    assert host.launch_fixture(project, "hello").status == 201
    shim = host.shim_pid(project)
    with limited(host, [shim], resource.RLIMIT_NPROC, 1):
        killed = host.kill(project, grace_seconds=0)
        assert (killed.status, killed.json["survivors"]) == (200, []) and killed.json["killed"], killed
        assert host.project_processes(project) == []
        eventually(lambda: processes.look(shim) is None, 60, "the end of a shim that has nothing to do")
    assert host.launch_fixture(project, "hello", version="2").status == 201
    is_calm(host, host.agent_pid)


@pytest.mark.slow
@pytest.mark.needs_root
def test_f12_a_launch_that_its_shim_can_t_begin_with_is_called_off(unprivileged_host: AgentHost, project: str) -> None:
    """The agent waits for half a minute before it says so."""
    host = unprivileged_host
    before = host.launch_fixture(project, "hello", version="1").json["pid"]
    with limited(host, [host.shim_pid(project)], resource.RLIMIT_NPROC, 1):
        refused = host.launch_fixture(project, "hello", version="2", stop={"grace_seconds": 0})
        assert refused.status == 503 and "called off" in refused.json["hint"], refused
    assert host.launch_fixture("another", "hello").status == 201, "time for the shim to do what is wanted"
    status = host.status(project)
    assert (status["pid"], status["version"], status["state"], status["want"]) == (before, "1", "ready", "up")
    assert host.launch_fixture(project, "hello", version="2").status == 201
