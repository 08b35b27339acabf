"""A process gives up what it does not need before it reads what a stranger sent: it can't take it back.

Resource limits (setrlimit(2)), no_new_privs (prctl(2)) and Landlock (landlock(7), Linux ≥ 5.19 for what is needed here; an
older kernel, or one without it, does without).
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from typing import Tuple

from agent.host import prctl
from agent.host.files import read_bytes

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION = 1
_PATH_BENEATH = 1

# Rights on files, bits of LANDLOCK_ACCESS_FS_…
_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE, _MAKE = 1 << 4 | 1 << 5, 1 << 7 | 1 << 8 | 1 << 12
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_INSIDE = _WRITE_FILE | _READ_FILE | _READ_DIR | _REMOVE | _MAKE | _REFER
#: Links and renames from one directory to another can be allowed from this version on.
LEAST_VERSION = 2
#: Version of Landlock → how many rights on files it knows; the last number counts for newer ones.
_RIGHTS = {2: 14, 3: 15, 4: 15, 5: 16}
_TCP, _TCP_VERSION = 0b11, 4
_SIGNALS_AND_SOCKETS, _SCOPE_VERSION = 0b11, 6


def confine(writable: str, readable: str, memory_bytes: int, file_bytes: int, seconds: int) -> None:
    """From now on this process writes below one directory and reads one more file, whoever it runs as.

    `memory_bytes` is what it may take beyond what it has, `file_bytes` the largest file, `seconds` of processor time.
    OSError where the kernel refuses what it knows.
    """
    for kind, most in (
        (resource.RLIMIT_AS, _address_space() + memory_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_CORE, 0),
    ):
        _limit(kind, most, most)
    # first SIGXCPU, which says why; at one and the same limit the kernel may send SIGKILL alone (getrlimit(2))
    _limit(resource.RLIMIT_CPU, seconds, seconds + 5)
    prctl.set_no_new_privs()
    _restrict(writable, readable)


def _limit(kind: int, soft: int, hard: int) -> None:
    given = resource.getrlimit(kind)[1]
    hard = hard if given == resource.RLIM_INFINITY else min(hard, given)
    resource.setrlimit(kind, (min(soft, hard), hard))


def landlock_version() -> int:
    """Landlock's version (its ABI); 0 where there is none, or it is switched off."""
    return max(0, _syscall(_CREATE_RULESET, None, 0, _VERSION))


def _restrict(writable: str, readable: str) -> None:
    version = landlock_version()
    if version < LEAST_VERSION:
        return
    attributes, inside = _attributes(version)
    ruleset = _checked(_syscall(_CREATE_RULESET, attributes, len(attributes), 0))
    try:
        for path, rights in ((writable, inside), (readable, _READ_FILE)):
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                _checked(_syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, fd), 0))
            finally:
                os.close(fd)
        _checked(_syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _attributes(version: int) -> Tuple[bytes, int]:
    """struct landlock_ruleset_attr with everything that is to be asked for, and what is allowed below the directory."""
    files = (1 << _RIGHTS.get(version, _RIGHTS[max(_RIGHTS)])) - 1
    attributes = struct.pack("=Q", files)
    if version >= _TCP_VERSION:
        attributes += struct.pack("=Q", _TCP)
    if version >= _SCOPE_VERSION:
        attributes += struct.pack("=Q", _SIGNALS_AND_SOCKETS)
    return attributes, _INSIDE | (_TRUNCATE & files)


def _syscall(number: int, *arguments: object) -> int:
    """syscall(2): its result, or -1 with errno set."""
    # each its whole register: what is passed as an int has an undefined upper half (syscall(2))
    words = [ctypes.c_long(word) if isinstance(word, int) else ctypes.c_char_p(word) for word in arguments]  # type: ignore[arg-type]
    return int(prctl.libc.syscall(ctypes.c_long(number), *words))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "Landlock")
    return result


def _address_space() -> int:
    """What this process has mapped, in bytes (proc(5), statm)."""
    pages = (read_bytes("/proc/self/statm") or b"0").split()[0]
    return int(pages) * resource.getpagesize()
