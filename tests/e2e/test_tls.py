"""The whole life of an agent that speaks TLS: its own certificate, kill -9, a renewed certificate, an upgrade."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Callable, Iterator

import pytest

from agent.host.certificates import client_context
from tests.support import bundles
from tests.support.agent import AGENT, AgentHost
from tests.support.wait import eventually

pytestmark = pytest.mark.e2e

PYTHON = os.path.realpath(sys.executable)


def make_pair(pyz: str, folder: Path, *words: str) -> Path:
    """`tls-init`, as a user runs it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    done = subprocess.run(
        [PYTHON, "-I", pyz, "tls-init", "--directory", str(folder), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--tls-cert" in done.stdout and "sha256//" in done.stdout
    assert os.stat(folder / "key.pem").st_mode & 0o777 == 0o600
    return folder / "cert.pem"


@pytest.fixture
def encrypted(pyz: str, tmp_path: Path) -> Iterator[AgentHost]:
    """An agent with a certificate of its own making, and one project."""
    chain = make_pair(pyz, tmp_path / "tls")
    arguments = ("--tls-cert", str(chain), "--tls-key", str(chain.with_name("key.pem")))
    with AgentHost(pyz, PYTHON, arguments=arguments, tls=client_context(str(chain))) as host:
        assert host.launch_fixture("hello", "hello").status == 201
        yield host


def test_its_whole_life(encrypted: AgentHost, pyz: str, tmp_path: Path) -> None:
    host, pid = encrypted, encrypted.status("hello")["pid"]
    shown = host.run("status", "--store", host.store)
    assert shown.returncode == 0 and b"hello" in shown.stdout, "on its own host it is found and trusted by itself"
    host.crash_agent()
    assert host.status("hello")["pid"] == pid
    _renew(host, pyz, tmp_path)
    upgraded = host.launch(AGENT, bundles.release(pyz, str(tmp_path), "next"))
    assert upgraded.status == 201, upgraded
    assert host.status(AGENT)["version"] == "9.9-next"
    assert host.status("hello")["pid"] == pid


def _renew(host: AgentHost, pyz: str, tmp_path: Path) -> None:
    """A new certificate counts from SIGHUP on; to a client that trusts the old one alone, the agent is a stranger then."""
    old, shim = host.tls, host.process
    new = client_context(str(make_pair(pyz, tmp_path / "tls", "--force")))
    assert host.is_answering()
    assert shim is not None
    shim.send_signal(signal.SIGHUP)
    host.tls = new
    eventually(_trusts(host), 30, "the new certificate")
    host.tls = old
    assert not _trusts(host)()
    host.tls = new


def _trusts(host: AgentHost) -> Callable[[], bool]:
    def ask() -> bool:
        try:
            return host.request("GET", "/ping").body == b"pong"
        except ssl.SSLCertVerificationError:
            return False

    return ask


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--tls-cert", "CERT"], "--tls-key"),
        (["--tls-cert", "CERT", "--tls-key", "/nonexistent"], "/nonexistent can't be read"),
        (["--tls-cert", "CERT", "--tls-key", "CERT"], "can't be used"),
        (["--tls-cert", "CERT", "--tls-key", "KEY", "--tls-client-ca", "KEY"], "--tls-client-ca"),
    ],
)
def test_what_is_no_good_is_refused_before_anything_listens(pyz: str, tmp_path: Path, words: list[str], complaint: str) -> None:
    chain = make_pair(pyz, tmp_path / "tls")
    files = {"CERT": str(chain), "KEY": str(chain.with_name("key.pem"))}
    command = [PYTHON, "-I", pyz, "serve", "--store", str(tmp_path / "store"), *(files.get(word, word) for word in words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done
    assert complaint in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "store" / "projects").exists()


def test_a_pair_is_not_overwritten(pyz: str, tmp_path: Path) -> None:
    before = make_pair(pyz, tmp_path / "tls").read_bytes()
    command = [PYTHON, "-I", pyz, "tls-init", "--directory", str(tmp_path / "tls")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--force" in done.stderr
    assert (tmp_path / "tls/cert.pem").read_bytes() == before
