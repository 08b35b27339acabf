"""Signatures by the real ssh-keygen: good for one project, one version, these bytes, a listed key, and for nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Dict

import pytest

from agent.errors import ArtifactFault, UsageError
from agent.host import sshsig

DIGEST = "ab" * 32
TEXT = sshsig.signed_text("web", "1.0", DIGEST)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, str]:
    """Paths of private keys; `listed` is among the allowed signers, as is `expired`, whose time is over."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed")
    folder = tmp_path_factory.mktemp("keys")
    found = {}
    for name in ("listed", "other", "expired", "elsewhere"):
        found[name] = str(folder / name)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", found[name]], check=True)
    public = {name: Path(path + ".pub").read_text() for name, path in found.items()}
    found["allowed"] = str(folder / "allowed_signers")
    Path(found["allowed"]).write_text(
        f'ci@example namespaces="ant-artifact" {public["listed"]}'
        f'old@example valid-before="20200101" {public["expired"]}'
        f'git@example namespaces="git" {public["elsewhere"]}'
    )
    return found


def verify(text: bytes, signature: str, keys: Dict[str, str], tmp_path: Path) -> str:
    (tmp_path / "sig").write_text(signature)
    return sshsig.verify(text, str(tmp_path / "sig"), keys["allowed"])


def test_a_listed_key_s_signature_names_its_principal(keys: Dict[str, str], tmp_path: Path) -> None:
    assert TEXT.decode() == f'{{"project": "web", "version": "1.0", "sha256": "{DIGEST}"}}\n'
    assert verify(TEXT, sshsig.sign(TEXT, keys["listed"], os.environ), keys, tmp_path) == "ci@example"


@pytest.mark.parametrize(
    "text",
    [
        sshsig.signed_text("web2", "1.0", DIGEST), sshsig.signed_text("web", "1.1", DIGEST),
        sshsig.signed_text("web", "1.0", "cd" * 32), TEXT[:-1], b"",
    ],
    ids=["another project", "another version", "other bytes", "no newline", "nothing"],
)  # fmt: skip
def test_t16_it_is_good_for_nothing_else(text: bytes, keys: Dict[str, str], tmp_path: Path) -> None:
    signature = sshsig.sign(TEXT, keys["listed"], os.environ)
    with pytest.raises(ArtifactFault, match="signature: "):
        verify(text, signature, keys, tmp_path)


@pytest.mark.parametrize("key", ["other", "expired", "elsewhere"])
def test_t16_only_a_listed_key_counts(key: str, keys: Dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ArtifactFault, match="signature: "):
        verify(TEXT, sshsig.sign(TEXT, keys[key], os.environ), keys, tmp_path)


def test_t16_nor_does_one_for_another_purpose(keys: Dict[str, str], tmp_path: Path) -> None:
    words = ["ssh-keygen", "-Y", "sign", "-n", "file", "-f", keys["listed"]]
    signature = subprocess.run(words, input=TEXT, capture_output=True, check=True).stdout.decode()
    with pytest.raises(ArtifactFault, match="signature: "):
        verify(TEXT, signature, keys, tmp_path)


NONE = ["", "x", "-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n", "\0", "U1NIU0lH" * 900]


@pytest.mark.parametrize("signature", NONE)
def test_t16_what_is_no_signature_is_refused(signature: str, keys: Dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ArtifactFault, match="signature: "):
        verify(TEXT, signature, keys, tmp_path)


def test_nobody_may_sign_where_nobody_is_listed(tmp_path: Path) -> None:
    with pytest.raises(ArtifactFault, match="nobody may sign"):
        sshsig.verify(TEXT, str(tmp_path / "sig"), str(tmp_path / "allowed_signers"))


def test_a_key_that_is_none_is_a_mistake(keys: Dict[str, str]) -> None:
    with pytest.raises(UsageError, match="--sign /nowhere"):
        sshsig.sign(TEXT, "/nowhere", os.environ)
