"""How the kernel would execute a file (execve(2)), found out before it has to."""

from __future__ import annotations

import os
import re
import shlex
import stat
from dataclasses import dataclass
from typing import Optional, Tuple

from agent.errors import ArtifactFault
from agent.store import elf

#: A project's PATH, unless its own environment sets another one.
CLEAN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHELL = "/bin/sh"
#: BINPRM_BUF_SIZE: the kernel cuts a longer `#!` line off.
_SHEBANG_BYTES = 256
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)


@dataclass(frozen=True)
class Surroundings:
    """Where programs are looked for: relative paths in the release's directory, bare names on the search path."""

    directory: str
    search_path: str = CLEAN_PATH

    def locate(self, name: str) -> Optional[str]:
        """The executable that a bare name stands for, or None."""
        folders = (os.path.join(self.directory, folder) for folder in self.search_path.split(":"))
        return next((path for path in (f"{folder}/{name}" for folder in folders) if is_executable(path)), None)

    def shown(self, path: str) -> str:
        """A path as its project knows it: relative to the release."""
        return path[len(self.directory) + 1 :] if path.startswith(self.directory + "/") else path


def is_file(path: str) -> bool:
    """Whether it is a regular file, or a symlink to one."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def is_executable(path: str) -> bool:
    """Whether it is a regular file with a run bit. By the bits, not by access(2): projects may run as another user."""
    return is_file(path) and bool(os.stat(path).st_mode & 0o111)


def looks_executable(path: str) -> bool:
    """Whether a file is meant to be executed: by its run bit, or by beginning as ELF files and scripts do."""
    return is_file(path) and (is_executable(path) or _head(path).startswith((elf.MAGIC, b"#!")))


def argv(path: str, around: Surroundings, shell_script: bool = False) -> Tuple[str, ...]:
    """The words that execute the regular file at `path`; ArtifactFault if this host can't.

    A script is executed directly if it has a run bit, else by the interpreter of its `#!` line; a
    `shell_script` may do without such a line, and is then run by /bin/sh.
    """
    shown = around.shown(path)
    head = _head(path)
    if not head.strip():
        raise ArtifactFault(f"{shown} is empty.", "A script begins with a line such as #!/bin/sh.")
    if head.startswith(elf.MAGIC):
        elf.check(path, shown)
        return (_with_run_bit(path, shown),)
    if head.startswith(b"\xef\xbb\xbf"):
        raise ArtifactFault(f"{shown} begins with a byte order mark.", "Save it as UTF-8 without BOM.")
    line = head.partition(b"\n")[0]
    if line.endswith(b"\r") and (shell_script or line.startswith(b"#!")):
        raise ArtifactFault(f"{shown} has Windows line ends (CRLF).", "Convert it, with dos2unix or so.")
    if line.startswith(b"#!"):
        interpreter = _interpreter(line, around, shown)
        return (path,) if is_executable(path) else (*interpreter, path)
    if not shell_script or b"\0" in head:
        raise ArtifactFault(f"{shown} is neither an ELF file nor a script.", "A script begins with #!/bin/sh or so.")
    return (SHELL, path)


def _head(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_SHEBANG_BYTES)


def _with_run_bit(path: str, shown: str) -> str:
    if not is_executable(path):
        raise ArtifactFault(f"{shown} has no run bit.", f"Run 'chmod +x {shlex.quote(shown)}' before packing.")
    return path


def _interpreter(line: bytes, around: Surroundings, shown: str) -> Tuple[str, ...]:
    """The interpreter of a `#!` line and its one optional argument, as the kernel splits them."""
    if len(line) == _SHEBANG_BYTES:
        raise ArtifactFault(f"{shown} has a #! line of more than {_SHEBANG_BYTES - 1} bytes.", "Use a shorter path.")
    words = os.fsdecode(line[2:].strip(b" \t")).split(None, 1)
    if not words or "\0" in words[0]:
        raise ArtifactFault(f"{shown} has a #! line without an interpreter.", "Write #!/bin/sh or so.")
    path = os.path.join(around.directory, words[0])
    if not is_executable(path):
        raise _missing(shown, words[0])
    argument = tuple(word.rstrip(" \t") for word in words[1:])
    if os.path.basename(path) == "env":
        _check_env(argument, around, shown)
    return (path, *argument)


def _check_env(argument: Tuple[str, ...], around: Surroundings, shown: str) -> None:
    """Whether `env` (env(1)) will find the program that it is to run."""
    if not argument:
        raise ArtifactFault(f"{shown} has a #! line with env, but no program.", "Write #!/usr/bin/env python3 or so.")
    program = argument[0]
    if program.startswith("-"):
        words = _split(program, shown)
        if any(word.startswith("PATH=") for word in words):
            return
        program = next((word for word in words if not word.startswith("-") and not _ASSIGNMENT.fullmatch(word)), "")
    elif " " in program or "\t" in program:
        raise ArtifactFault(
            f"{shown} has the #! line 'env {program}', and env looks for a program of that whole name.",
            f"Write '#!/usr/bin/env -S {program}'.",
        )
    found = is_executable(os.path.join(around.directory, program)) if "/" in program else around.locate(program)
    if program and not found:
        raise _missing(shown, program)


def _split(text: str, shown: str) -> Tuple[str, ...]:
    """The words of `-S…` or of other options of env."""
    try:
        return tuple(shlex.split(text[2:] if text.startswith("-S") else text))
    except ValueError as error:
        raise ArtifactFault(f"{shown} has a #! line that can't be split: {error}.", "Close its quotes.") from None


def _missing(shown: str, interpreter: str) -> ArtifactFault:
    return ArtifactFault(
        f"{shown} needs the interpreter {interpreter!r}, which this host does not have.",
        f"Install {os.path.basename(interpreter)} on the host, or name one that is there in the #! line.",
    )
