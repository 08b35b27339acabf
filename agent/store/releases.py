"""Releases on disk: an unpacked artifact, and beside it the JSON whose presence (a draft will do) commits it.

A directory without its JSON is what an interrupted launch left behind; nothing runs from it and
the next launch of that version removes it.
"""

from __future__ import annotations

import os
import shutil
from typing import List, Optional, Tuple

from agent.host import drafts, files
from agent.model import Release
from agent.store.layout import ProjectLayout


def read(layout: ProjectLayout, version: str) -> Optional[Release]:
    """The committed release of that version, or None."""
    document = drafts.read(layout.release_json(version))
    if document is None or not os.path.isdir(layout.release(version)):
        return None
    return Release.from_json(document)


def every(layout: ProjectLayout) -> List[Release]:
    """All committed releases, oldest first."""
    found = (read(layout, version) for version in _named(layout))
    return sorted((release for release in found if release is not None), key=_order)


def versions(layout: ProjectLayout) -> List[str]:
    """The versions of all committed releases, oldest first: of ten thousand in half the time of `every`."""
    documents = ((version, drafts.read(layout.release_json(version))) for version in _named(layout))
    received = [
        (document.get("generation", 0), document.get("received_at", ""), version)
        for version, document in documents if document is not None
    ]  # fmt: skip
    return [version for *_, version in sorted(received) if os.path.isdir(layout.release(version))]


def find(layout: ProjectLayout, digest: str, version: Optional[str]) -> Optional[Release]:
    """The release that was made of these bytes (and has that version, if one is given); the newest of several."""
    candidates = [version] if version is not None else [name for name in _named(layout) if _names_digest(layout, name, digest)]
    found = (read(layout, candidate) for candidate in candidates)
    matching = [release for release in found if release is not None and release.digest == digest]
    return max(matching, key=_order, default=None)


def _order(release: Release) -> Tuple[int, str]:
    """Those of agents that wrote no generation are the oldest, in the order of the clock."""
    return release.generation, release.received_at


def _named(layout: ProjectLayout) -> List[str]:
    """The versions that have a document, a draft of one, or both; in no order."""
    names = files.names(layout.releases)
    documents = {name[: -len(drafts.SUFFIX)] if name.endswith(drafts.SUFFIX) else name for name in names}
    return [name[: -len(".json")] for name in documents if name.endswith(".json")]


def _names_digest(layout: ProjectLayout, version: str, digest: str) -> bool:
    """Whether the document has this digest in it: nearly all have not, and need not be parsed."""
    path = layout.release_json(version)
    return any(digest.encode() in (files.read_bytes(name, is_regular=True) or b"") for name in (path, path + drafts.SUFFIX))


def current(layout: ProjectLayout) -> Optional[str]:
    """The version that `current` points at: the last one whose launch succeeded."""
    try:
        return os.path.basename(os.readlink(layout.current))
    except OSError:
        return None


def point_current(layout: ProjectLayout, version: str) -> None:
    """Make this version the current one, durably, unless it is already."""
    if current(layout) != version:
        files.swap_symlink(layout.current, f"releases/{version}")


def place(layout: ProjectLayout, version: str, unpacked: str) -> None:
    """Move an unpacked tree to where the release of that version lives; `draft` or `commit` makes it one."""
    files.make_directory(layout.releases)
    remove(layout, version)
    os.rename(unpacked, layout.release(version))


def draft(layout: ProjectLayout, release: Release) -> None:
    """Make the placed tree a release until the host is restarted; the want that names it settles it for good."""
    drafts.write(layout.release_json(release.version), release.to_json())


def commit(layout: ProjectLayout, release: Release) -> None:
    """Make the placed tree a release for good: first its files are durable, then its JSON."""
    draft(layout, release)
    files.sync_file_system(layout.releases)
    drafts.settle(layout.release_json(release.version))


def remove(layout: ProjectLayout, version: str) -> None:
    """Delete a release, JSON first, so that no instant shows a committed release without its files."""
    drafts.remove(layout.release_json(version))
    if os.path.lexists(layout.release(version)):
        shutil.rmtree(layout.release(version))


def prune(layout: ProjectLayout, keep: int, spare: List[Optional[str]]) -> List[str]:
    """Delete the oldest releases beyond `keep`, never one of `spare`; the versions that went."""
    if len(_named(layout)) <= keep:
        return []
    candidates = versions(layout)
    superfluous = [version for version in candidates[: max(0, len(candidates) - keep)] if version not in spare]
    for version in superfluous:
        remove(layout, version)
    return superfluous
