"""Which build this is: "what runs where?" is the first question of a bad night."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import zipfile
from dataclasses import dataclass
from typing import Optional

from agent import __version__
from agent.host import drafts


@dataclass(frozen=True)
class Build:
    """A zipapp of the agent: its version (`0.1.0+1a2b3c4d`) and the SHA-256 digest of the file that `build.py` made.

    Of a source tree there is no digest.
    """

    version: str
    digest: Optional[str]


@functools.cache
def own_build() -> Build:
    """That of the running code."""
    return build_of(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def build_of(bundle: str) -> Build:
    """That of the zipapp at a resolved path. OSError, zipfile.BadZipFile or KeyError if it is none of ours.

    An installed one has bytecode beside its sources, so its bytes are not those that were built: its release's JSON tells.
    """
    if os.path.isdir(bundle):
        return Build(__version__, None)
    release = os.path.dirname(bundle)
    installed = drafts.read(release + ".json") if os.path.basename(os.path.dirname(release)) == "releases" else None
    if installed is not None:
        return Build(installed["version"], installed["digest"])
    with open(bundle, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    with zipfile.ZipFile(bundle) as archive:
        return Build(json.loads(archive.read("anthill.json"))["version"], digest)
