"""README's walks, line by line, against a real agent."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any, List

import pytest

ROOT = Path(__file__).resolve().parents[2]
WALKS = re.findall(r"<!-- walk -->\n```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)

pytestmark = pytest.mark.e2e


def _run(walk: str, host: Any, pyz: Path) -> List[str]:
    """The output of each line. Only what the machine decides is replaced: the store, the port, where the file was built."""
    script = re.sub(r"^STORE=.*$", f"STORE={host.store}", walk, flags=re.MULTILINE)
    script = script.replace("http://127.0.0.1:4499", host.url).replace(
        "python3 dist/ant-host-agent.pyz", f"{host.python} -I {pyz}"
    )
    lines = script.strip().splitlines()
    marked = "".join(f"{line}\nprintf '\\0'\n" for line in lines)
    environ = {**os.environ, "ANT_HOST_AGENT_STORE": str(host.store)}
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", marked], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split("\0")[:-1]


def test_with_curl(host: Any, pyz: Path) -> None:
    *_, ping, _, launched, status, output, killed = _run(WALKS[0], host, pyz)
    assert ping == "pong"
    assert '"LaunchSuccessful"' in launched and '"ready"' in status
    assert output.startswith("hello from hello")
    assert '"Successful"' in killed and '"signal": "SIGTERM"' in killed


def test_with_the_command_line(host: Any, pyz: Path) -> None:
    launched, status, output, killed = _run(WALKS[1], host, pyz)
    assert "hello" in launched and "ready" in status
    assert "hello from hello" in output
    assert "SIGTERM" in killed


def test_with_a_further_key(host: Any, pyz: Path) -> None:
    (walk,) = [walk for walk in WALKS if "token add" in walk]
    made, listed, shown, revoked = _run(walk, host, pyz)
    assert made == "" and '"projects": []' in listed
    assert "ci\tdeploy\tweb\t" in shown
    assert "ci opens nothing any more" in revoked
