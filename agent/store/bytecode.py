"""Bytecode for the agent's own zipapp: it starts in 110 ms instead of 300 when nothing must be compiled.

zipimport never writes bytecode back into a zip, so without this each start of the agent compiles everything
again. What is built and sent around holds sources only (so that it is the same bytes everywhere); the host adds
the bytecode of its own Python to its own copy. Another Python skips it and compiles the sources beside it.
"""

from __future__ import annotations

import importlib.util
import io
import marshal
import zipfile
import zlib
from typing import Dict

from agent.errors import ArtifactFault
from agent.host import files

#: PEP 552: bit 0 says "checked by hash, not by time", bit 1 (not set) would have the source hashed at each import.
_UNCHECKED_HASH = (1).to_bytes(4, "little") + bytes(8)


def add_bytecode(pyz_path: str, destination_path: str) -> None:
    """Write a copy of a zipapp that holds, beside each source, its bytecode for the running Python.

    The copy appears whole, by a rename, with mode 0755; the two paths may be the same. Every member but the
    bytecode keeps its bytes, and the shebang stays. One process makes the same copy each time, and from 3.11 on so
    does each Python (marshal of 3.9 and 3.10 orders sets by the process's hash seed). ArtifactFault if it is no zip
    or a source does not compile, OSError if the disk refuses.
    """
    try:
        with zipfile.ZipFile(pyz_path) as archive:
            shebang = _before_zip(pyz_path, archive)
            members = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, zlib.error) as error:
        raise ArtifactFault(f"{pyz_path} is not a whole zipapp: {error}.", "Build or upload it again.") from error
    for name in [name for name in members if name.endswith(".py")]:
        members[name + "c"] = compile_member(name, members[name])
    files.write_atomically(destination_path, _pack(shebang, members), mode=0o755)


def compile_member(name: str, source: bytes) -> bytes:
    """The .pyc (PEP 552, unchecked hash) of a source for the running Python; tracebacks will name the member."""
    try:
        code = compile(source, name, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError) as error:
        hint = "The artifact was built for another Python; this host needs one that its Python can run."
        raise ArtifactFault(f"This host's Python can't compile {name}: {error}.", hint) from error
    return importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH + marshal.dumps(code)


def _before_zip(pyz_path: str, archive: zipfile.ZipFile) -> bytes:
    """What stands before the first member: the shebang (PEP 441)."""
    length = min((member.header_offset for member in archive.infolist()), default=0)
    with open(pyz_path, "rb") as file:
        return file.read(length)


def _pack(shebang: bytes, members: Dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    stream.write(shebang)
    with zipfile.ZipFile(stream, "w") as archive:
        for name in sorted(members):
            member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            member.create_system = 3  # Unix: the mode below is one
            member.external_attr = 0o100644 << 16
            # what is read at each start is stored as it is
            archive.writestr(member, members[name], zipfile.ZIP_STORED if name.endswith(".pyc") else zipfile.ZIP_DEFLATED)
    return stream.getvalue()
