"""schemathesis, a fuzzer that goes by the description of the API, finds nothing: with all of its default checks.

It is installed into an environment of its own, since it has no one version for 3.9 to 3.13; so this is a test for the hand.
"""

from __future__ import annotations

import os
import subprocess
from typing import Dict

import pytest

import build
from tests.support.agent import AgentHost

pytestmark = [pytest.mark.e2e, pytest.mark.newest, pytest.mark.slow]

_SUPPORT = os.path.join(build.ROOT, "tests", "support")
_ENVIRONMENT = os.path.join(build.CACHE, "schemathesis")


@pytest.fixture(scope="module")
def schemathesis(interpreters: Dict[str, str]) -> str:
    """The path of the program, in its environment."""
    program = os.path.join(_ENVIRONMENT, "bin", "schemathesis")
    if not os.path.exists(program):
        requirements = os.path.join(_SUPPORT, "schemathesis.txt")
        subprocess.run([list(interpreters.values())[-1], "-m", "venv", _ENVIRONMENT], check=True)
        subprocess.run([os.path.join(_ENVIRONMENT, "bin", "pip"), "install", "-q", "-r", requirements], check=True)
    return program


def test_the_api_is_as_described(host: AgentHost, schemathesis: str) -> None:
    config = os.path.join(_SUPPORT, "schemathesis.toml")
    key = f"Authorization: Bearer {host.token}"
    command = [
        schemathesis, "--config-file", config, "run", f"{host.url}/openapi.json", "-H", key, "--seed", "1",
        "--max-examples", "10", "--exclude-path", "/events", "--report-dir", os.path.join(host.base, "report"),
    ]  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=host.base)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Traceback" not in host.project_output("ant-host-agent").decode()
    assert host.staging() == []
