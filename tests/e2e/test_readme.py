"""README's command blocks, line by line, against a real agent."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, List

import pytest

from tests.support import http
from tests.support.wait import eventually

ROOT = Path(__file__).resolve().parents[2]
#: name → commands; a walk takes the variables TOKEN and AGENT from the first one
WALKS = dict(re.findall(r"<!-- walk (\w+) -->\n```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL))
#: Those whose outputs are looked at below; of the others every line has to succeed.
LOOKED_AT = ("curl", "cli", "calls", "keys")

pytestmark = pytest.mark.e2e


def _run(name: str, host: Any, pyz: Path) -> List[str]:
    """The output of each line. Only what the machine decides is replaced: the store, the port, where the file was built."""
    script = re.sub(r"^STORE=.*$", f"STORE={host.store}", WALKS[name], flags=re.MULTILINE)
    script = script.replace("http://127.0.0.1:4499", host.url).replace(
        "python3 dist/ant-host-agent.pyz", f"{host.python} -I {pyz}"
    )
    lines = script.strip().splitlines()
    marked = "".join(f"{line}\nprintf '\\0'\n" for line in lines)
    environ = {**os.environ, "ANT_HOST_AGENT_STORE": str(host.store), "TOKEN": host.token, "AGENT": host.url}
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", marked], cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split("\0")[:-1]


def test_build_run(tmp_path: Path) -> None:
    """`python3 build.py run`, on a store and port of its own."""
    address = ("127.0.0.1", http.free_port())
    words = ["--store", str(tmp_path / "store"), "--listen", "{}:{}".format(*address)]
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen([sys.executable, "build.py", "run", *words], cwd=ROOT, stdout=output, stderr=output)
    try:
        eventually(lambda: process.poll() is not None or _answers(address), 120, (tmp_path / "output").read_text)
        assert process.poll() is None, (tmp_path / "output").read_text()
    finally:
        process.terminate()
        code = process.wait(60)
    assert code == 0


def _answers(address: Any) -> bool:
    try:
        return http.request(address, "GET", "/ping").body == b"pong"
    except OSError:
        return False


def test_with_curl(host: Any, pyz: Path) -> None:
    *_, ping, _, launched, status, output, killed = _run("curl", host, pyz)
    assert ping == "pong\n"
    assert '"LaunchSuccessful"' in launched and '"ready"' in status
    assert output.startswith("hello from hello")
    assert '"Successful"' in killed and '"signal": "SIGTERM"' in killed


def test_with_the_command_line(host: Any, pyz: Path) -> None:
    launched, status, output, killed = _run("cli", host, pyz)
    assert "hello" in launched and "ready" in status
    assert "hello from hello" in output
    assert "SIGTERM" in killed


def test_with_a_further_key(host: Any, pyz: Path) -> None:
    made, listed, shown, revoked = _run("keys", host, pyz)
    assert made == "" and '"projects": []' in listed
    assert "ci\tdeploy\tweb\t" in shown
    assert "ci opens nothing any more" in revoked


def test_every_call(host: Any, pyz: Path) -> None:
    outputs = iter(_run("calls", host, pyz))
    assert next(outputs) == "" and next(outputs) == "pong\n"
    for wanted in (
        '"LaunchSuccessful"', '"AlreadyRunning"', '"replaced": "1"', '"projects"', '"version": "2"', '"state"', '"version": "1"',
        "hello from hello", "hello/record.json", '"rollback"', '"healthy": true', "ant_host_agent_info",
        '"openapi": "3.1.0"', '"Successful"',
        '"NothingToKill"',
    ):  # fmt: skip
        output = next(outputs)
        assert wanted in output, (wanted, output)
    assert list(outputs) == []


def test_the_python_client(host: Any, pyz: Path) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    subprocess.run(["tar", "-C", "fixtures/projects/hello", "-czf", f"{host.base}/hello.tgz", "."], cwd=ROOT, check=True)
    script = script.replace("dist/hello.tgz", f"{host.base}/hello.tgz").replace("dist/ant-host-agent.pyz", str(pyz))
    environ = {"ANT_HOST_AGENT_STORE": host.store, "PATH": os.defpath}
    done = subprocess.run(
        [host.python, "-W", "error", "-c", script], env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"LaunchSuccessful 1 \d+\nhello from hello.*\nSuccessful\n", done.stdout), done.stdout


@pytest.mark.parametrize("name", sorted(set(WALKS) - set(LOOKED_AT)))
def test_every_other_walk(name: str, host: Any, pyz: Path) -> None:
    _run(name, host, pyz)
