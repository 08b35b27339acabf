"""Whether an artifact is signed by somebody whom this host trusts, decided before it is unpacked.

The policy is the host's (`serve --signatures`): with `require` nothing unsigned is launched, no release of the agent either. With
`off` a signature that comes is verified all the same, where the host knows signers.
"""

from __future__ import annotations

import os
from typing import Optional

from agent.errors import ArtifactFault
from agent.host import files, sshsig
from agent.operations.agent import Agent
from agent.store import staging

REQUIRE = "require"


def signer(agent: Agent, project: str, version: Optional[str], digest: str, signature: Optional[str]) -> Optional[str]:
    """Who signed the artifact; None where nobody has to have. ArtifactFault, step `signature`, for what is not to be launched."""
    allowed = agent.store.allowed_signers
    is_required = (files.read_json(agent.store.config) or {}).get("signatures") == REQUIRE
    if not is_required and (signature is None or not os.path.exists(allowed)):
        return None
    try:
        if signature is None:
            raise ArtifactFault("signature: this host launches signed artifacts only.", "Sign it: `launch --sign KEY` does.")
        if version is None:
            raise ArtifactFault("signature: it is for a version, and the call names none.", "Send the version that was signed.")
        return _verified(agent, sshsig.signed_text(project, version, digest), signature)
    except ArtifactFault as error:
        error.members.update({"project": project, "step": "signature"})
        raise


def _verified(agent: Agent, text: bytes, signature: str) -> str:
    path = staging.new_path(agent.store, ".sig")
    try:
        files.write_atomically(path, signature.encode("utf-8", "replace"), durable=False)
        return sshsig.verify(text, path, agent.store.allowed_signers)
    finally:
        files.remove_if_present(path)
