"""The environment of a project: clean, the same on every start, nothing of the agent's own."""

from __future__ import annotations

import os
from typing import Dict

from agent.host import users
from agent.model import Release
from agent.store.layout import ProjectLayout

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment(release: Release, layout: ProjectLayout) -> Dict[str, str]:
    """PATH HOME LANG TZ USER, then what the artifact adds, then the contract's own names."""
    user = (users.find(release.user) if release.user is not None else None) or users.own()
    return {
        "PATH": PATH,
        "HOME": user.home,
        "LANG": "C.UTF-8",
        "TZ": _time_zone(),
        "USER": user.name,
        **release.env,
        "PROJECT": release.project,
        "VERSION": release.version,
        "PERSIST_DIR": layout.data,
        "SECRETS_DIR": layout.secrets,
        "RELEASE_DIR": layout.release(release.version),
    }


def marker(layout: ProjectLayout) -> bytes:
    """The entry that tells this project's processes from all others on the host, whoever their parent is by now."""
    return b"PERSIST_DIR=" + os.fsencode(layout.data)


def _time_zone() -> str:
    try:
        return os.readlink("/etc/localtime").partition("/zoneinfo/")[2] or "UTC"
    except OSError:
        return "UTC"
