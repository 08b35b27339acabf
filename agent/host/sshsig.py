"""Signatures of artifacts, made and verified by OpenSSH's own program (ssh-keygen(1), -Y; PROTOCOL.sshsig), version 8.2 or later.

Signed is a small text that names project, version and digest, so that no signature is good for another of them. Who may sign
stands in a file of the host's own (ssh-keygen(1), ALLOWED SIGNERS); a signature's key counts only if it is there.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import List, Mapping

from agent.errors import AgentError, ArtifactFault, UsageError

NAMESPACE = "ant-artifact"
_PROGRAM = "ssh-keygen"
_SECONDS = 20.0
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}


def signed_text(project: str, version: str, sha256: str) -> bytes:
    """What a signature is over: one line of JSON, its members in this order."""
    return json.dumps({"project": project, "version": version, "sha256": sha256}).encode() + b"\n"


def sign(text: bytes, key: str, environ: Mapping[str, str]) -> str:
    """The signature, in its armour. `key`: a private key's file, or a public one's whose private key an ssh-agent has.

    UsageError with the program's own words if it can't be made.
    """
    done = _run(["-Y", "sign", "-n", NAMESPACE, "-f", key], text, environ)
    if done.returncode:
        raise UsageError(f"--sign {key}: {_last_line(done)}.", "Name a key that ssh-keygen made, such as ~/.ssh/id_ed25519.")
    return done.stdout.decode()


def verify(text: bytes, signature_file: str, allowed_signers: str) -> str:
    """Who signed the text: the principal in `allowed_signers`. ArtifactFault if that is nobody who may."""
    if not os.path.exists(allowed_signers):
        raise ArtifactFault(
            "signature: nobody may sign for this host yet.", f"List who may in {allowed_signers}: ssh-keygen(1), ALLOWED SIGNERS."
        )
    files = ["-s", signature_file, "-f", allowed_signers]
    found = _run(["-Y", "find-principals", *files], b"", _ENVIRONMENT)
    principals = found.stdout.decode(errors="replace").splitlines() if found.returncode == 0 else []
    done = found
    for principal in principals:
        done = _run(["-Y", "verify", "-n", NAMESPACE, "-I", principal, *files], text, _ENVIRONMENT)
        if done.returncode == 0:
            return principal
    who = f"it is none of {', '.join(principals)} for these bytes" if principals else "its key is not among the allowed signers"
    raise ArtifactFault(
        f"signature: {who} ({_last_line(done)}).",
        "Sign the project, version and sha256 of this very artifact with an allowed key: `launch --sign KEY` does.",
    )


def _run(words: List[str], given: bytes, environ: Mapping[str, str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run([_PROGRAM, *words], input=given, capture_output=True, env=environ, timeout=_SECONDS, check=False)
    except FileNotFoundError:
        raise AgentError("There is no ssh-keygen here.", "Install OpenSSH's client (package openssh-client).") from None
    except subprocess.TimeoutExpired:
        raise AgentError(f"ssh-keygen did not end within {_SECONDS:g} s.", "Is it waiting for a passphrase or a touch?") from None


def _last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
    return lines[-1].rstrip(".") if lines else f"ssh-keygen exited with {done.returncode}"
