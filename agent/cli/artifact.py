"""What `launch` sends: which project it is, and the file that holds it."""

from __future__ import annotations

import json
import os
import re
import sys
import tarfile
import tempfile
import zipfile
from contextlib import contextmanager
from typing import Any, BinaryIO, Dict, Iterator, Optional, cast

from agent.cli.pack import pack
from agent.errors import ArtifactFault, UsageError
from agent.model import parse_project

MANIFEST = "anthill.json"
_MANIFEST_BYTES = 64 * 1024
#: How far into a tar the manifest is looked for; builders write it early, and launching needs no answer.
_MEMBERS = 1000

_ENDINGS = re.compile(r"(\.(tar|gz|bz2|xz|zst|tgz|tbz2|txz|zip|pyz|sh|py|bin|elf))+$", re.IGNORECASE)
_VERSION = re.compile(r"[-_.]v?\d+(\.\d+)*([-_.+][0-9A-Za-z.+-]*)?$")


def project_of(path: str, manifest: Optional[Dict[str, Any]] = None) -> str:
    """The project id that the manifest, else the folder's or file's name gives. UsageError when neither does."""
    named = (manifest or read_manifest(path)).get("project")
    if named is not None:
        return parse_project(named)
    name = os.path.basename(os.path.realpath(path) if os.path.isdir(path) else path)
    if not os.path.isdir(path):
        name = _VERSION.sub("", _ENDINGS.sub("", name))
    guess = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", guess):
        raise UsageError(
            f"{path} names no project: its manifest has none, and its name gives none.", f"Write `launch PROJECT {path}`."
        )
    return guess


def read_manifest(path: str) -> Dict[str, Any]:
    """The `anthill.json` at the top of a folder or archive; {} where there is none that can be read."""
    try:
        data = _in_folder(path) if os.path.isdir(path) else _in_zip(path) or _in_tar(path)
        document = json.loads(data or b"{}")
    except (OSError, ValueError, EOFError, tarfile.TarError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return {}  # whether it is an artifact at all is the agent's to say
    return document if isinstance(document, dict) else {}


def parse_manifest_file(path: str) -> Dict[str, Any]:
    """The JSON object in a file that is to stand for the artifact's own manifest."""
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read(_MANIFEST_BYTES + 1))
    except OSError as error:
        raise UsageError(f"The manifest {path} can't be read: {error.strerror}.", "Name a file with --manifest.") from error
    except ValueError as error:
        raise ArtifactFault(f"The manifest {path} is not JSON: {error}.", "Write one JSON object.") from error
    if not isinstance(document, dict):
        raise ArtifactFault(f"The manifest {path} is JSON but no object.", 'Write for example {"project": "web"}.')
    return document


@contextmanager
def on_disk(path: str, takes_ignored: bool) -> Iterator[str]:
    """The artifact as a file: itself, or for as long as it is needed what the folder is packed into."""
    if not os.path.isdir(path):
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="ant-host-agent-", suffix=".tar") as packed:
        left_out = pack(path, cast(BinaryIO, packed), takes_ignored)
        packed.flush()
        if left_out:
            shown = ", ".join(left_out[:3]) + (f" and {len(left_out) - 3} more" if len(left_out) > 3 else "")
            sys.stderr.write(f"ant-host-agent: .gitignore left out {shown}; --all packs everything.\n")
        yield packed.name


def _in_folder(path: str) -> Optional[bytes]:
    try:
        with open(os.path.join(path, MANIFEST), "rb") as file:
            return file.read(_MANIFEST_BYTES)
    except FileNotFoundError:
        return None


def _in_zip(path: str) -> Optional[bytes]:
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        name = next((name for name in archive.namelist() if _is_manifest(name)), None)
        return archive.open(name).read(_MANIFEST_BYTES) if name else None


def _in_tar(path: str) -> Optional[bytes]:
    with tarfile.open(path, "r|*") as tar:
        for _, member in zip(range(_MEMBERS), tar):
            content = tar.extractfile(member) if member.isreg() and _is_manifest(member.name) else None
            if content is not None:
                return content.read(_MANIFEST_BYTES)
    return None


def _is_manifest(name: str) -> bool:
    """At the top, or right below the one folder that the agent takes for the top."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return len(parts) <= 2 and parts[-1:] == [MANIFEST]
