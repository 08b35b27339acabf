"""A folder as an artifact: a tar whose bytes depend on the files only.

Names are sorted; owners, times and all of the mode but the run bit are left out. So the same folder gives the
same digest from any machine and checkout, and launching it again changes nothing. What `.gitignore` names stays out.
"""

from __future__ import annotations

import os
import stat
import tarfile
from typing import BinaryIO, Iterator, List, Optional

from agent.cli import ignore
from agent.errors import ArtifactFault

#: What a build leaves beside the program: it would change the digest and is of no use on the host.
LEFT_OUT = (".git", "__pycache__")


def pack(folder: str, file: BinaryIO, takes_ignored: bool = False) -> List[str]:
    """Write the folder as a tar; the names that `.gitignore` left out. ArtifactFault names what can't be packed."""
    left_out: List[str] = []
    with tarfile.open(mode="w|", fileobj=file, format=tarfile.PAX_FORMAT) as tar:
        for name in _names(folder, "", None if takes_ignored else (), left_out):
            _add(tar, folder, name)
    return left_out


def _names(folder: str, below: str, rules: Optional[ignore.Rules], left_out: List[str]) -> Iterator[str]:
    """Relative names, parents first, sorted; without rules everything."""
    try:
        entries = sorted(os.scandir(os.path.join(folder, below)), key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(os.path.join(folder, below), error) from error
    if rules is not None:
        rules = (*rules, *ignore.read(folder, below))
    for entry in entries:
        if entry.name in LEFT_OUT:
            continue
        name, is_folder = os.path.join(below, entry.name), entry.is_dir(follow_symlinks=False)
        if rules and ignore.is_ignored(rules, name, is_folder):
            left_out.append(name)
            continue
        yield name
        if is_folder:
            yield from _names(folder, name, rules, left_out)


def _add(tar: tarfile.TarFile, folder: str, name: str) -> None:
    path = os.path.join(folder, name)
    member = tarfile.TarInfo(name)
    try:
        status = os.lstat(path)
        member.mode = 0o755 if status.st_mode & 0o111 or stat.S_ISDIR(status.st_mode) else 0o644
        if stat.S_ISREG(status.st_mode):
            member.size = status.st_size
            with open(path, "rb") as content:
                tar.addfile(member, content)
        elif stat.S_ISDIR(status.st_mode):
            member.type = tarfile.DIRTYPE
            tar.addfile(member)
        elif stat.S_ISLNK(status.st_mode):
            member.type, member.linkname = tarfile.SYMTYPE, os.readlink(path)
            tar.addfile(member)
        else:
            raise ArtifactFault(
                f"{path} is a socket, pipe or device and can't be part of an artifact.", "Remove it from the folder."
            )
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: OSError) -> ArtifactFault:
    why = error.strerror or "it changed while it was read"
    return ArtifactFault(f"{path} can't be packed: {why}.", "Make it readable, or leave it out of the folder.")
