"""Who has how much of the store's disk, for when it gets short."""

from __future__ import annotations

import os
from typing import Any, Dict, List

from agent.host import files
from agent.store.layout import StoreLayout

#: Files looked at, so that an answer never waits for a tree of a million.
_MOST_FILES = 5000
_BIG_BYTES = 1 << 20


def largest(store: StoreLayout, most: int = 3) -> List[Dict[str, Any]]:
    """`[{"project", "bytes"}]` of the projects with the most on disk, the largest first; of a huge one not all is counted."""
    names = files.names(store.projects)
    sizes = {name: _bytes(store.project(name).root, _MOST_FILES // len(names)) for name in names}
    big = sorted((name for name in names if sizes[name] >= _BIG_BYTES), key=lambda name: -sizes[name])
    return [{"project": name, "bytes": sizes[name]} for name in big[:most]]


def advice(largest: List[Dict[str, Any]]) -> str:
    """What to free, as a sentence."""
    if not largest:
        return "Free space on the disk: no project has much of it."
    named = ", ".join(f"{entry['project']} ({entry['bytes'] >> 20} MiB)" for entry in largest)
    return f"Free space: kill with purge=true what is not needed, or lower keep_releases or logs. Most is used by {named}."


def _bytes(root: str, most_files: int) -> int:
    """Bytes on disk below a folder; links and what vanishes meanwhile count nothing."""
    total, left, folders = 0, most_files, [root]
    while folders and left > 0:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    left -= 1
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue
    return total
