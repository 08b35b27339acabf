"""Drafts: JSON files that count at once, for as long as the host is not restarted, and last once they are settled.

The disk is the slowest of all that a launch waits for. So what is decided is written beside its place first, without waiting;
whoever reads the file reads the draft, and goes to work. What was not settled before a power cut, and may be torn by it, has the
id of another boot, or none, and counts for nothing: the file is as it was before.
"""

from __future__ import annotations

import os
from typing import Any, Dict, Optional

from agent.host import files, procfs

SUFFIX = ".draft"


def write(path: str, document: Dict[str, Any]) -> None:
    """From now on this is what `read(path)` gives, until the host is restarted. OSError if the disk refuses."""
    files.write_json(path + SUFFIX, {**document, "boot_id": procfs.boot_id()}, durable=False)


def read(path: str) -> Optional[Dict[str, Any]]:
    """The draft, else the file; None where there is neither. ValueError if the file is not a JSON object."""
    return pending(path) or files.read_json(path)


def pending(path: str) -> Optional[Dict[str, Any]]:
    """The draft that is to be settled; None where there is none of this boot."""
    if not os.access(path + SUFFIX, os.F_OK):  # as usual: that there is none costs a third of what an exception does
        return None
    try:
        document = files.read_json(path + SUFFIX)
    except ValueError:  # torn, so of an earlier boot
        return None
    return document if document is not None and document.get("boot_id") == procfs.boot_id() else None


def settle(path: str) -> None:
    """Put the draft, if there is one, in its place, where it survives a power cut. OSError if the disk refuses.

    Its bytes are on the disk before its name is.
    """
    if pending(path) is None:
        return
    fd = os.open(path + SUFFIX, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(path + SUFFIX, path)
    files.fsync_directory(os.path.dirname(path))


def remove(path: str) -> None:
    """Remove file and draft, those that are there."""
    files.remove_if_present(path + SUFFIX)
    files.remove_if_present(path)
