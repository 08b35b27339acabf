"""The agent as a release of its own project: how one is described, and which are not to be tried again."""

from __future__ import annotations

import json
import sys
import zipfile
from typing import Any, Dict, List

from agent import SCHEMA
from agent.errors import ArtifactFault
from agent.host import clock, files
from agent.model import AGENT_PROJECT, LogPolicy, Release, RestartPolicy, StopPolicy
from agent.store.bytecode import add_bytecode
from agent.store.layout import StoreLayout

BUNDLE = AGENT_PROJECT + ".pyz"
#: Requests in flight get this long when an agent is stopped.
_DRAIN_SECONDS = 35.0


def read_own_manifest(bundle: str) -> Dict[str, Any]:
    """`anthill.json` inside an agent's zipapp. ArtifactFault when the file is no agent."""
    try:
        with zipfile.ZipFile(bundle) as archive:
            manifest = json.loads(archive.read("anthill.json"))
    except (FileNotFoundError, zipfile.BadZipFile, KeyError, ValueError):
        manifest = None
    if isinstance(manifest, dict) and manifest.get("project") == AGENT_PROJECT and isinstance(manifest.get("version"), str):
        return manifest
    raise ArtifactFault(
        f"This is not a release of {AGENT_PROJECT}: it holds no anthill.json that says so.",
        "Send the file that 'python3 build.py build' makes: dist/ant-host-agent.pyz.", step="unpack",
    )  # fmt: skip


def describe(store: StoreLayout, version: str, digest: str, size_bytes: int, manifest: Dict[str, Any], by: str) -> Release:
    """The release of an agent whose bundle lies, or is about to lie, in its place. It keeps the configured socket."""
    placed = f"{store.project(AGENT_PROJECT).release(version)}/{BUNDLE}"
    config = files.read_json(store.config) or {}
    return Release(
        project=AGENT_PROJECT, version=version, digest=digest, size_bytes=size_bytes, manifest=manifest,
        command=(sys.executable, "-I", "-S", placed, "agent", store.root), sockets={"http": config["listen"]},
        stop=StopPolicy("SIGTERM", _DRAIN_SECONDS), restart=RestartPolicy("always", 0.05, 5.0, 10.0), logs=LogPolicy(),
        received_at=clock.timestamp(), received_from=by,
    )  # fmt: skip


def install_bundle(bundle: str, directory: str) -> None:
    """Put the bundle into its release's directory, with the bytecode of this host's Python."""
    add_bytecode(bundle, f"{directory}/{BUNDLE}")


def quarantine(store: StoreLayout, digest: str, version: str, reason: str) -> None:
    """Remember that this release of the agent failed here; it is refused from now on unless forced."""
    document = files.read_json(store.quarantine) or {"schema": SCHEMA}
    document[digest] = {"version": version, "reason": reason, "at": clock.timestamp()}
    files.write_json(store.quarantine, document)


def quarantined(store: StoreLayout) -> Dict[str, Any]:
    """What failed here before: `{digest: {"version", "reason", "at"}}`."""
    document = files.read_json(store.quarantine) or {}
    return {digest: found for digest, found in document.items() if isinstance(found, dict)}


def quarantined_versions(store: StoreLayout) -> List[str]:
    """The same, by version."""
    return [found["version"] for found in quarantined(store).values()]


def acquit(store: StoreLayout, digest: str) -> None:
    """This release works here after all."""
    document = files.read_json(store.quarantine) or {}
    if document.pop(digest, None) is not None:
        files.write_json(store.quarantine, document)
