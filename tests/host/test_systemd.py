"""On a real host: Debian with systemd as its first process, cgroup v2, reboots and power cuts.

The tests share one machine and run in their order; each leaves the agent installed and at work.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, Sequence

import pytest

from tests.support.machine import Done, Image, Machine, NotBuilt, build_image
from tests.support.wait import eventually

pytestmark = [pytest.mark.host, pytest.mark.needs_root]

STORE = "/var/lib/ant-host-agent"
SERVICE = "ant-host-agent.service"
#: What the tests launch: name → the program and what its manifest says.
PROGRAMS = {
    "steady": ("echo steady; exec sleep 2147483647", {}),
    "doomed": ("exec sleep 2147483647", {}),
    "hungry": (
        'while [ ! -e "$PERSIST_DIR/eat" ]; do sleep 0.2; done; exec python3 -S -c "bytearray(b\'x\' * (1 << 20)) * 128"',
        {"limits": {"memory_bytes": 48 << 20}, "restart": {"policy": "never"}},
    ),
    "busy": ("while :; do :; done", {"limits": {"cpus": 0.1, "processes": 7}}),
}


#: A call as HTTP has it, made by bash: $1 is the method, $2 the path. An emulated processor takes long to start a Python.
_CALL = f"""
exec 3<>/dev/tcp/127.0.0.1/4499 || exit
printf '%s %s HTTP/1.0\\r\\nHost: 127.0.0.1:4499\\r\\nAuthorization: Bearer %s\\r\\n\\r\\n' "$1" "$2" "$(cat {STORE}/token)" >&3
cat <&3
"""


class Host:
    """The machine, and the agent on it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def run(self, *command: str) -> Done:
        return self.machine.run(*command)

    def agent(self, *words: str) -> Done:
        """The command line, with the file that was copied to the host."""
        return self.run("python3", "/opt/agent.pyz", *words)

    def call(self, method: str, path: str) -> Done:
        """A call of the API: its output is the body."""
        done = self.run("bash", "-c", _CALL, "call", method, path)
        return Done(done.code, done.output.partition("\r\n\r\n")[2], done.errors)

    def status(self, project: str) -> Dict[str, Any]:
        document: Dict[str, Any] = self.call("GET", f"/project/{project}").json
        return document

    def launch(self, project: str) -> int:
        """Launch it; its pid."""
        return int(self.agent("launch", project, f"/opt/projects/{project}", "--json").json["pid"])

    def record(self, project: str) -> Dict[str, Any]:
        document: Dict[str, Any] = self.run("cat", f"{STORE}/projects/{project}/record.json").json
        return document

    def service(self, name: str) -> str:
        """A property of the service, as systemd has it."""
        return self.run("systemctl", "show", "--value", "--property", name, SERVICE).output.strip()

    def is_alive(self, pid: int) -> bool:
        return self.run("test", "-d", f"/proc/{pid}").code == 0

    def wait_until_served(self) -> None:
        """Until the agent answers and systemd's main process is its shim, alive."""
        eventually(self._is_served, 150, lambda: str(self.run("systemctl", "status", SERVICE)))

    def _is_served(self) -> bool:
        main, state = (self.service(name) for name in ("MainPID", "ActiveState"))
        shim = self.record("ant-host-agent")["shim"]["pid"]
        return state == "active" and main == str(shim) and self.is_alive(shim) and self.answers()

    def answers(self) -> bool:
        """Whether ping is answered."""
        return self.call("GET", "/ping").output == "pong"

    def wait_for(self, project: str, **wanted: object) -> Dict[str, Any]:
        """The project's status, once it has these members."""
        last: Dict[str, Any] = {}

        def look() -> bool:
            last.clear()
            last.update(self.status(project))
            return wanted.items() <= last.items()

        eventually(look, 150, lambda: f"{project} {wanted}: {last}")
        return last


@pytest.fixture(scope="module")
def host(pyz: str) -> Iterator[Host]:
    """The machine with the agent installed and at work."""
    folder = tempfile.mkdtemp(prefix="ant-machine-")
    try:
        machine = Machine(_image(folder, pyz), folder)
        try:
            _switch_on(machine)
            found = Host(machine)
            installed = found.agent("install")
            assert installed.code == 0, (installed, found.run("journalctl", "--no-pager", "-n", "50"))
            yield found
        finally:
            machine.cut_power()
    finally:
        shutil.rmtree(folder)


def _switch_on(machine: Machine) -> None:
    """The first time, when nothing of ours is at work in it: that it does not come up is the emulator's fault."""
    try:
        machine.start()
    except AssertionError as error:
        pytest.skip(f"no host can be emulated here: it does not come up: {error}")


def _image(folder: str, pyz: str) -> Image:
    projects = Path(folder, "projects")
    for name, (program, manifest) in PROGRAMS.items():
        (projects / name).mkdir(parents=True)
        (projects / name / "run.sh").write_text(f"#!/bin/sh\n{program}\n")
        (projects / name / "anthill.json").write_text(json.dumps(manifest))
    try:
        return build_image(folder, {"/opt/agent.pyz": pyz, "/opt/projects": str(projects)})
    except NotBuilt as error:
        pytest.skip(f"no host can be emulated here: {error}")


def test_install_starts_and_enables_it(host: Host) -> None:
    assert host.run("systemctl", "is-enabled", SERVICE).output == "enabled\n"
    host.wait_until_served()
    assert host.service("Type") == "notify"
    score = host.run("cat", f"/proc/{host.service('MainPID')}/oom_score_adj").output
    assert score == "-900\n"


def test_a_killed_shim_is_replaced_and_systemd_follows(host: Host) -> None:
    pid, before = host.launch("steady"), host.service("MainPID")
    assert host.run("sh", "-c", f"kill -9 {before}").code == 0
    eventually(lambda: host.service("MainPID") not in ("0", before), 150, "another main process")
    host.wait_until_served()
    assert host.is_alive(pid)
    assert host.status("steady")["pid"] == pid


def test_a_killed_agent_is_started_again(host: Host) -> None:
    pid, main, before = host.status("steady")["pid"], host.service("MainPID"), host.record("ant-host-agent")["pid"]
    assert host.run("sh", "-c", f"kill -9 {before}").code == 0
    eventually(lambda: host.record("ant-host-agent")["pid"] not in (None, before), 150, "another agent")
    host.wait_until_served()
    assert host.service("MainPID") == main
    assert host.status("steady")["pid"] == pid and host.is_alive(pid)


def test_memory_is_limited_and_the_kernel_says_so(host: Host) -> None:
    host.launch("hungry")
    assert host.run("touch", f"{STORE}/projects/hungry/data/eat").code == 0
    eventually(lambda: host.status("hungry")["exit_cause"], 150, lambda: str(host.status("hungry")))
    cause = host.status("hungry")["exit_cause"]
    assert (cause["kind"], cause["signal"], cause["oom"]) == ("signaled", 9, True)
    host.wait_until_served()


def test_processor_time_and_processes_are_limited(host: Host) -> None:
    pid = host.launch("busy")
    group = host.record("busy")["cgroup"]
    assert host.run("cat", f"{group}/cpu.max", f"{group}/pids.max").output == "10000 100000\n7\n"
    assert str(pid) in host.run("cat", f"{group}/cgroup.procs").output.split()
    eventually(lambda: _throttled(host, group) > 0, 150, "the kernel holds it back")
    assert host.run("cat", f"/proc/{pid}/oom_score_adj").output == "0\n"


def _throttled(host: Host, group: str) -> int:
    words = host.run("cat", f"{group}/cpu.stat").output.split()
    return int(words[words.index("nr_throttled") + 1])


def test_a_restart_of_the_service_leaves_projects_at_work(host: Host) -> None:
    """Those with limits, too: systemd starts its process in a group that must not have handed on its controllers."""
    pids = {project: host.status(project)["pid"] for project in ("steady", "busy")}
    main = host.service("MainPID")
    done = host.run("systemctl", "restart", SERVICE)
    assert done.code == 0, (done, host.run("journalctl", "--no-pager", "-u", SERVICE, "-n", "50"))
    host.wait_until_served()
    assert host.service("MainPID") != main
    for project, pid in pids.items():
        assert host.is_alive(pid)
        assert host.wait_for(project, state="ready")["pid"] == pid


def test_a_reboot_brings_back_what_was_wanted(host: Host) -> None:
    host.launch("doomed")
    assert host.agent("kill", "doomed").code == 0
    host.machine.reboot()
    _is_back(host, up=("steady", "busy"), down="doomed")


def test_a_power_cut_right_after_an_answer_undoes_nothing(host: Host) -> None:
    """What a call has answered was on the disk before: no agent, nor the kernel by itself, has the time to write it later."""
    host.launch("doomed")
    killed = host.call("DELETE", "/project/busy").json
    host.machine.cut_power()
    assert killed["status"] == "Successful"
    host.machine.start()
    _is_back(host, up=("steady", "doomed"), down="busy")


def _is_back(host: Host, up: Sequence[str], down: str) -> None:
    host.wait_until_served()
    for project in up:
        host.wait_for(project, state="ready", want="up")
    host.wait_for(down, state="exited", want="down")
    # the words of every command line: the shims of projects are forked, and say in one word whose they are
    words = host.run("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'").output.splitlines()
    assert words.count("shim") == 1


def test_uninstall_leaves_projects_and_the_store(host: Host) -> None:
    pid = host.status("steady")["pid"]
    done = host.agent("uninstall")
    assert done.code == 0, done
    assert not host.answers()
    assert host.is_alive(pid)
    assert host.run("test", "-s", f"{STORE}/token").code == 0
    assert host.run("systemctl", "is-enabled", SERVICE).code != 0
    assert host.agent("install").code == 0
    host.wait_until_served()
    assert host.status("steady")["pid"] == pid
    assert host.agent("uninstall", "--purge").code == 0
    assert not host.is_alive(pid)
    assert host.run("test", "-e", STORE).code != 0
