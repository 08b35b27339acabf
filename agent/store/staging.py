"""`<store>/staging`: uploads and unpacking, on the store's own file system, so that a commit is a rename.

An entry belongs to the process in its name, `<pid>-<start time>-<random><suffix>`; what such a
process left behind when it died is swept. A pid alone would not do: it is used again.
"""

from __future__ import annotations

import os
import re
import shutil
from typing import List

from agent.host import procfs
from agent.host.files import make_directory, remove_if_present
from agent.store.layout import StoreLayout

_ENTRY = re.compile(r"(\d+)-(\d+)-[0-9a-f]{16}.*")


def new_path(store: StoreLayout, suffix: str = "") -> str:
    """A path in staging that nobody else uses, owned by this process; only the directory is created (0700)."""
    make_directory(store.staging)
    started = procfs.start_time(os.getpid())
    return f"{store.staging}/{os.getpid()}-{started}-{os.urandom(8).hex()}{suffix}"


def grave_path(store: StoreLayout) -> str:
    """A path in staging for what is to go: it has no owner that lives, so what can't be removed now is swept later."""
    make_directory(store.staging)
    return f"{store.staging}/0-0-{os.urandom(8).hex()}"


def sweep(store: StoreLayout) -> List[str]:
    """Remove the entries whose process is gone; returns their names. What has no owner in its name is left alone."""
    removed = []
    try:
        names = os.listdir(store.staging)
    except FileNotFoundError:
        return []
    for name in names:
        match = _ENTRY.fullmatch(name)
        if match and not procfs.is_alive(int(match.group(1)), int(match.group(2))):
            remove(f"{store.staging}/{name}")
            removed.append(name)
    return removed


def remove(path: str) -> None:
    """Remove a staging file or directory, directories that an artifact made unwritable included."""
    if os.path.islink(path) or not os.path.isdir(path):
        remove_if_present(path)
        return
    os.chmod(path, 0o700)
    for directory, names, _ in os.walk(path):
        for name in names:
            inner = os.path.join(directory, name)
            if not os.path.islink(inner):
                os.chmod(inner, 0o700)
    shutil.rmtree(path, ignore_errors=True)
