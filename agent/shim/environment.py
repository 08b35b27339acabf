"""The environment of a project: clean, the same on every start, nothing of the agent's own."""

from __future__ import annotations

import os
import pwd
from typing import Dict

from agent.model import Release
from agent.store.layout import ProjectLayout

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment(release: Release, layout: ProjectLayout) -> Dict[str, str]:
    """PATH HOME LANG TZ USER, then what the artifact adds, then the contract's own names."""
    try:
        user = pwd.getpwuid(os.geteuid())
        home, name = user.pw_dir, user.pw_name
    except KeyError:  # a uid without an entry, as containers have
        home, name = "/", str(os.geteuid())
    return {
        "PATH": PATH,
        "HOME": home,
        "LANG": "C.UTF-8",
        "TZ": _time_zone(),
        "USER": name,
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
