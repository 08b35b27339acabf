"""The tar that `logs` answers with, taken apart."""

from __future__ import annotations

import io
import tarfile
from typing import Dict, Mapping


def members_of(content: bytes) -> Dict[str, bytes]:
    """The regular files of a tar, in its order."""
    members: Dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        for member in archive:
            stream = archive.extractfile(member)
            if stream is not None:
                assert member.name not in members, f"twice in the tar: {member.name}"
                members[member.name] = stream.read()
    return members


def output_of(project: str, members: Mapping[str, bytes]) -> bytes:
    """The segments of a log tar, put together again in its order."""
    return b"".join(
        content for name, content in members.items()
        if name.startswith(f"{project}/logs/output-") and name.endswith(".log")
    )  # fmt: skip
