"""Other releases of the agent: the built zipapp with one member changed."""

from __future__ import annotations

import json
import os
import zipfile
from typing import Tuple

#: What is changed: (member, what stands there, what shall stand there).
Change = Tuple[str, bytes, bytes]


def release(pyz: str, folder: str, name: str, *changes: Change, appended: Tuple[str, bytes] = ("", b"")) -> str:
    """A zipapp of version `9.9-<name>` with these changes, and something at the end of one member; its path.

    AssertionError when there is nothing to change.
    """
    path = os.path.join(folder, f"{name}.pyz")
    with open(path, "wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(pyz) as source, zipfile.ZipFile(path, "a") as target:
        for member in source.namelist():
            data = source.read(member)
            if member == "anthill.json":
                data = json.dumps({**json.loads(data), "version": f"9.9-{name}"}).encode()
            for changed, before, after in changes:
                if changed == member:
                    assert before in data, f"{member} does not hold {before!r}"
                    data = data.replace(before, after)
            target.writestr(member, data + (appended[1] if member == appended[0] else b""))
    return path
