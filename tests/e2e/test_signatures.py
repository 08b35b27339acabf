"""A host that wants signatures launches what is signed for it, and nothing else: no other project and no other agent."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Iterator

import pytest

from agent.host import sshsig
from tests.support import artifact, bundles, http
from tests.support.agent import AGENT, AgentHost

pytestmark = [pytest.mark.e2e, pytest.mark.newest]


@pytest.fixture
def strict_host(pyz: str, python: str) -> Iterator[AgentHost]:
    """It wants signatures, and its folder holds the key `signer` of somebody who may make them."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed")
    with AgentHost(pyz, python, arguments=("--signatures", "require")) as host:
        for name in ("signer", "stranger"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", os.path.join(host.base, name)], check=True)
        yield host


def allow_signer(host: AgentHost) -> None:
    with open(os.path.join(host.base, "signer.pub"), encoding="utf-8") as public:
        line = f"ci@example {public.read()}"
    with open(host.path("allowed_signers"), "w", encoding="utf-8") as allowed:
        allowed.write(line)


def sign(host: AgentHost, key: str, project: str, version: str, path: str) -> str:
    text = sshsig.signed_text(project, version, artifact.digest(path))
    return sshsig.sign(text, os.path.join(host.base, key), os.environ)


def test_t16_t20_only_what_is_signed_is_launched(strict_host: AgentHost) -> None:
    host = strict_host
    path = artifact.pack("hello", host.artifacts)
    good = sign(host, "signer", "web", "1", path)
    refused = host.launch("web", path, version="1", signature=good)
    assert refused.status == 422 and "nobody may sign for this host yet" in refused.json["detail"]
    allow_signer(host)

    other = artifact.pack("cron_like", host.artifacts)
    for what, answer in {
        "unsigned": host.launch("web", path, version="1"),
        "without the version": host.launch("web", path, signature=good),
        "for another project": host.launch("web2", path, version="1", signature=good),
        "for another version": host.launch("web", path, version="2", signature=good),
        "for other bytes": host.launch("web", other, version="1", signature=good),
        "by a stranger": host.launch("web", path, version="1", signature=sign(host, "stranger", "web", "1", path)),
        "an agent, unsigned": host.launch(AGENT, host.pyz),
        "an agent, signed as a project": host.launch(AGENT, path, version="1", signature=good),
    }.items():
        assert (answer.status, answer.json["step"]) == (422, "signature"), (what, answer)
    assert host.projects() == [AGENT] and host.staging() == []

    with open(path, "rb") as file:
        body, kind = http.multipart({"project": "web", "version": "1", "signature": good}, {"artifact": ("a", file.read())})
    launched = host.request("POST", "/project", body, {"Content-Type": kind})
    assert launched.status == 201, launched
    assert host.request("GET", "/project/web/history").json["history"][-1]["by"].endswith(", signed by ci@example")


def test_a_signed_agent_takes_over(strict_host: AgentHost) -> None:
    host = strict_host
    allow_signer(host)
    path, version = bundles.release(host.pyz, host.artifacts, "signed"), "9.9-signed"
    reply = host.launch(AGENT, path, version=version, signature=sign(host, "signer", AGENT, version, path))
    assert (reply.status, host.status(AGENT)["version"]) == (201, version), reply


def test_the_command_line_signs(strict_host: AgentHost) -> None:
    host = strict_host
    allow_signer(host)
    folder = os.path.join(artifact.PROJECTS, "hello")
    done = host.run("launch", "web", folder, "--store", host.store)
    assert done.returncode == 5 and b"signed artifacts only" in done.stderr, done
    done = host.run("launch", "web", folder, "--store", host.store, "--sign", os.path.join(host.base, "signer"))
    assert done.returncode == 0, done
    assert host.status("web")["state"] == "ready"
