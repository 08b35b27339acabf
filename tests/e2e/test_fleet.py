"""fixtures/fleet/ with real Ansible and real ssh: ten agents and a bare host, in network namespaces of this test's own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

import build
from tests.conftest import find_interpreters
from tests.support import artifact, netns, processes
from tests.support.wait import eventually

FLEET = os.path.join(build.ROOT, "fixtures", "fleet")
ANSIBLE = "ansible-core==2.19.0"
TOKEN = "of-the-whole-fleet-" + "0" * 40
COUNT, BARE = 10, 50

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


class Fleet:
    """Ten agents, each in a namespace, and `ansible-playbook` in the controller's."""

    def __init__(self, folder: Path, pyz: str) -> None:
        self.folder, self.pyz = folder, pyz
        self.network = netns.Network()
        self.agents: List[subprocess.Popen[bytes]] = []
        (folder / "token").write_text(TOKEN)
        (folder / "token").chmod(0o600)
        for number in range(1, COUNT + 1):
            address = self.network.add(number)
            words = ["serve", "--store", self.store(number), "--listen", f"{address}:4499", "--allow-plaintext"]
            command = [sys.executable, "-I", pyz, *words, "--token-file", str(folder / "token")]
            with (folder / f"{number}.log").open("wb") as log:
                self.agents.append(
                    subprocess.Popen(self.network.inside(number, *command), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
                )

    def wait(self) -> None:
        """Until all agents answer."""
        for number in range(1, COUNT + 1):
            eventually(lambda: self.curl(number, "/ping") == "pong", 60, (self.folder / f"{number}.log").read_text)  # noqa: B023

    def store(self, number: int) -> str:
        return str(self.folder / f"store-{number}")

    def curl(self, number: int, path: str, *words: str) -> str:
        url = f"http://10.77.0.{number}:4499{path}"
        command = ["curl", "-s", "-H", f"Authorization: Bearer {TOKEN}", *words, url]
        return subprocess.run(self.network.controlling(*command), capture_output=True, text=True, check=False).stdout

    def versions(self) -> List[str]:
        """What runs, and is ready, on each host."""
        found: List[Dict[str, Any]] = [json.loads(self.curl(number, "/project/web")) for number in range(1, COUNT + 1)]
        return [status["version"] if status["state"] == "ready" else status["state"] for status in found]

    def play(self, playbook: str, inventory: Dict[str, Any], **values: str) -> Tuple[int, str, float]:
        """Exit code, output and seconds of a playbook."""
        (self.folder / "inventory.json").write_text(json.dumps({"fleet": inventory}))
        environ = {
            **os.environ, "ANSIBLE_HOME": str(self.folder / "ansible"), "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8",
            "ANSIBLE_HOST_KEY_CHECKING": "False", "ANSIBLE_FORKS": "10", "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
        }  # fmt: skip
        command = [
            str(self.folder / "venv/bin/ansible-playbook"), "-i", str(self.folder / "inventory.json"),
            os.path.join(FLEET, playbook), "-e", json.dumps(values),
        ]  # fmt: skip
        started = time.monotonic()
        done = subprocess.run(
            self.network.controlling(*command), env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr, time.monotonic() - started

    def launch(self, path: str, version: str) -> Tuple[int, str, float]:
        hosts = {f"host-{number}": {"ansible_host": f"10.77.0.{number}"} for number in range(1, COUNT + 1)}
        inventory = {"hosts": hosts, "vars": {"agent_token": TOKEN}}
        return self.play("launch.yml", inventory, artifact=path, project="web", version=version)

    def close(self) -> None:
        for number in range(1, COUNT + 1):
            self.curl(number, "/project/web?grace_seconds=0", "-X", "DELETE")
        for agent in self.agents:
            agent.terminate()
        for agent in self.agents:
            agent.wait(60)
        eventually(self._is_empty, 60, "the end of what the fleet left")
        self.network.close()

    def _is_empty(self) -> bool:
        left = processes.mentioning(str(self.folder))
        processes.kill_all(left)
        return not left


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, pyz: str) -> Iterator[Fleet]:
    if not netns.can_make():
        pytest.skip("iproute2 is not installed")
    folder = tmp_path_factory.mktemp("fleet")
    python = find_interpreters("3.13").get("3.13", sys.executable)
    for command in ([python, "-m", "venv", str(folder / "venv")], [str(folder / "venv/bin/pip"), "install", "-q", ANSIBLE]):
        if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode:
            pytest.skip("ansible is not installed")
    made = Fleet(folder, str(shutil.copy(pyz, folder / "agent.pyz")))
    try:
        made.wait()
        yield made
    finally:
        made.close()


def _changed(output: str) -> List[str]:
    """The hosts of the recap on which something was changed, by number."""
    return re.findall(r"^host-(\d+) .*changed=[1-9]", output, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.host
@pytest.mark.needs_root
def test_a_rolling_launch_stops_at_the_first_batch_that_fails(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    check = {"before_launch": ['test ! -e "$PERSIST_DIR/fault"']}
    first, second = (
        shutil.move(artifact.pack("hello", str(fleet.folder), "tar.gz", {**check, "env": {"RELEASE": name}}), fleet.folder / name)
        for name in "12"
    )
    seconds = {}
    code, shown, seconds["10 hosts, all well"] = fleet.launch(str(first), "1")
    assert code == 0, shown
    assert fleet.versions() == ["1"] * COUNT and len(_changed(shown)) == COUNT
    code, shown, seconds["again, nothing to do"] = fleet.launch(str(first), "1")
    assert code == 0 and _changed(shown) == []

    fault = Path(fleet.store(6), "projects", "web", "data", "fault")
    fault.touch()
    code, shown, seconds["the sixth fails"] = fleet.launch(str(second), "2")
    assert code != 0
    assert fleet.versions() == [*("2" * 5), "1", "2", *("1" * 3)], shown
    assert "before_launch" in shown and "host-8" not in shown.partition("PLAY RECAP")[0].partition("host-5")[2]

    fault.unlink()
    code, shown, seconds["mended"] = fleet.launch(str(second), "2")
    assert code == 0 and fleet.versions() == ["2"] * COUNT, shown
    assert sorted(map(int, _changed(shown))) == [6, 8, 9, 10]
    with capsys.disabled():
        print("\n".join(f"  {name}: {taken:.1f} s" for name, taken in seconds.items()))


@pytest.mark.slow
@pytest.mark.host
@pytest.mark.needs_root
def test_a_bare_host_is_preloaded_over_ssh(fleet: Fleet) -> None:
    if shutil.which("sshd") is None:
        pytest.skip("sshd is not installed")
    address, folder = fleet.network.add(BARE), fleet.folder
    for name in ("host_key", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    os.makedirs("/run/sshd", exist_ok=True)
    options = {
        "ListenAddress": address, "HostKey": folder / "host_key", "AuthorizedKeysFile": folder / "key.pub", "StrictModes": "no",
        "UsePAM": "no", "PidFile": "none", "Subsystem": "sftp internal-sftp", "PermitRootLogin": "prohibit-password",
    }  # fmt: skip
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    sshd = subprocess.Popen(fleet.network.inside(BARE, shutil.which("sshd") or "", "-D", "-e", "-f", "/dev/null", *words))
    try:
        inventory = {
            "hosts": {"bare": {"ansible_host": address}},
            "vars": {"ansible_user": "root", "ansible_ssh_private_key_file": str(folder / "key")},
        }
        place, store = str(folder / "lib" / "agent.pyz"), str(folder / "store-bare")
        code, shown, _ = fleet.play(
            "preload.yml", inventory, agent_file=fleet.pyz, agent_place=place, agent_store=store,
            agent_listen=f"{address}:4499", agent_flags="--allow-plaintext", fetch_tokens=str(folder / "tokens"),
        )  # fmt: skip
        assert code == 0, shown
        token = (folder / "tokens" / "bare").read_text().strip()
        assert Path(store, "token").read_text().strip() == token and token not in shown
        assert fleet.curl(BARE, "/ping") == "pong"
        subprocess.run(fleet.network.inside(BARE, sys.executable, "-I", place, "stop", "--store", store), check=True)
    finally:
        sshd.terminate()
        sshd.wait(60)


@promtool
@pytest.mark.parametrize("words", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts.test.yml")])
def test_the_alert_rules_mean_what_they_say(words: Tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *words], cwd=FLEET, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_the_scrape_configuration_is_one(tmp_path: Path) -> None:
    for name in ("prometheus.yml", "alerts.yml"):
        shutil.copy(os.path.join(FLEET, name), tmp_path)
    (tmp_path / "read-token").write_text("x")
    done = subprocess.run(
        ["promtool", "check", "config", "prometheus.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
