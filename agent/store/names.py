"""Member names of archives: bytes from a stranger → a path that stays inside."""

from __future__ import annotations

from typing import Optional, Tuple

from agent.errors import ArtifactFault
from agent.store.limits import Limits

#: A path below the release: its parts, none of them empty, `.` or `..`; () is the release itself.
Path = Tuple[str, ...]

_RELATIVE = "Pack from the tree's top: 'tar -C DIRECTORY -czf artifact.tar.gz .'."
_REPACK = "Pack the tree anew with tar, zip or Python's tarfile and send what they write, unchanged."


def refusal(member: object, reason: str, hint: Optional[str] = None) -> ArtifactFault:
    """The ArtifactFault that refuses one member (its name as bytes, text or Path) for a reason."""
    if isinstance(member, tuple):
        member = "/".join(member)
    if isinstance(member, bytes):
        member = member.decode("utf-8", "backslashreplace")
    shown = repr(member)
    shown = shown if len(shown) <= 160 else shown[:157] + "..."
    return ArtifactFault(f"The archive's member {shown} {reason}.", hint or _REPACK)


def archive_refusal(reason: str, hint: Optional[str] = None) -> ArtifactFault:
    """The ArtifactFault that refuses an archive as a whole."""
    return ArtifactFault(f"The archive {reason}.", hint or _REPACK)


def parse_name(raw: bytes, limits: Limits) -> Path:
    """The path that a member's name stands for; ArtifactFault if it isn't one inside the archive."""
    text = parse_text(raw, raw, "name", limits)
    if text.startswith("/"):
        raise refusal(raw, "has an absolute name", _RELATIVE)
    parts = tuple(part for part in text.split("/") if part not in ("", "."))
    if ".." in parts:
        raise refusal(raw, "has '..' in its name", _RELATIVE)
    if len(parts) > limits.depth:
        raise refusal(raw, f"is more than {limits.depth} folders deep")
    if any(len(part.encode()) > limits.part_bytes for part in parts):
        raise refusal(raw, f"has a part longer than {limits.part_bytes} bytes in its name")
    return parts


def parse_text(member: bytes, raw: bytes, what: str, limits: Limits) -> str:
    """A name or a link's target as text: UTF-8, without control characters and backslashes, not too long."""
    if len(raw) > limits.path_bytes:
        raise refusal(member, f"has a {what} longer than {limits.path_bytes} bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise refusal(member, f"has a {what} that is not UTF-8", "Rename the file.") from None
    if any(character < " " or character in "\x7f\\" for character in text):
        raise refusal(member, f"has a control character or a backslash in its {what}", "Rename the file.")
    return text
