"""Whether this host can execute an ELF file (elf(5)): its CPU, its interpreter, its completeness."""

from __future__ import annotations

import os
import struct
import sys
from dataclasses import dataclass
from typing import BinaryIO, Dict, List, Tuple

from agent.errors import ArtifactFault

MAGIC = b"\x7fELF"

_MACHINES: Dict[int, str] = {
    2: "sparc",
    3: "i386",
    8: "mips",
    20: "ppc",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    43: "sparc64",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}
_USUAL_BITS: Dict[str, int] = {"i386": 32, "arm": 32, "x86_64": 64, "aarch64": 64, "riscv64": 64, "loongarch64": 64}
#: What the kernel of a CPU runs besides its own: 64-bit ones run the 32-bit programs of their family.
_ALSO_RUNS: Dict[str, Tuple[str, ...]] = {"x86_64": ("i386",), "aarch64": ("arm",)}
_EXECUTABLE_TYPES = (2, 3)
_LOAD, _INTERPRETER = 1, 3
_MAX_SEGMENTS = 256
_MAX_INTERPRETER_BYTES = 4096


@dataclass(frozen=True)
class Target:
    """What an ELF file is built for."""

    machine: str
    bits: int
    byte_order: str

    def __str__(self) -> str:
        if self.byte_order == "little" and _USUAL_BITS.get(self.machine) == self.bits:
            return self.machine
        return f"{self.machine} ({self.bits} bits, {self.byte_order}-endian)"


@dataclass(frozen=True)
class _Layout:
    """The formats of the header and of one segment's header, and the header's fields."""

    order: str
    wide: bool

    @property
    def header(self) -> struct.Struct:
        return struct.Struct(self.order + ("16x2HL3QL6H" if self.wide else "16x2HL3LL6H"))

    def segment(self, data: bytes) -> Tuple[int, int, int]:
        """A segment's type, offset in the file, and size in it."""
        if self.wide:
            kind, _, offset, _, _, size = struct.unpack_from(self.order + "2L4Q", data)
        else:
            kind, offset, _, _, size = struct.unpack_from(self.order + "5L", data)
        return kind, offset, size

    @property
    def segment_bytes(self) -> int:
        return 56 if self.wide else 32


def check(path: str, shown: str) -> None:
    """ArtifactFault, calling the file `shown`, unless this host can execute the ELF file at `path`."""
    with open(path, "rb") as file:
        head = file.read(64)
        _check_target(_parse_target(head, shown), host_target(), shown)
        size = os.fstat(file.fileno()).st_size
        for kind, offset, length in _read_segments(file, head, shown):
            if kind == _LOAD and offset + length > size:
                raise ArtifactFault(f"{shown} is cut short: it has {size} bytes.", "Build and upload it again.")
            if kind == _INTERPRETER:
                _check_interpreter(file, offset, length, shown)


def host_target() -> Target:
    """What this host's own programs are built for, told by the running Python."""
    with open("/proc/self/exe", "rb") as file:
        return _parse_target(file.read(64), sys.executable)


def _parse_target(head: bytes, shown: str) -> Target:
    if len(head) < 20 or head[4] not in (1, 2) or head[5] not in (1, 2):
        raise _damaged(shown)
    layout = _layout(head)
    (machine,) = struct.unpack_from(layout.order + "H", head, 18)
    name = _MACHINES.get(machine, f"CPU number {machine}")
    return Target(name, 64 if layout.wide else 32, "little" if layout.order == "<" else "big")


def _layout(head: bytes) -> _Layout:
    return _Layout("<" if head[5] == 1 else ">", wide=head[4] == 2)


def _read_segments(file: BinaryIO, head: bytes, shown: str) -> List[Tuple[int, int, int]]:
    layout = _layout(head)
    if len(head) < layout.header.size:
        raise _damaged(shown)
    kind, _, _, _, segments_at, _, _, _, segment_bytes, count, _, _, _ = layout.header.unpack_from(head)
    if kind not in _EXECUTABLE_TYPES:
        raise ArtifactFault(f"{shown} is an ELF file, but not a linked program.", "Link it; object files can't run.")
    if not 0 < count <= _MAX_SEGMENTS or segment_bytes != layout.segment_bytes:
        raise _damaged(shown)
    file.seek(min(segments_at, 1 << 40))
    data = file.read(count * segment_bytes)
    if len(data) < count * segment_bytes:
        raise _damaged(shown)
    return [layout.segment(data[at : at + segment_bytes]) for at in range(0, len(data), segment_bytes)]


def _damaged(shown: str) -> ArtifactFault:
    return ArtifactFault(f"{shown} is a damaged ELF file.", "Build and upload it again.")


def _check_target(target: Target, host: Target, shown: str) -> None:
    machine = os.uname().machine
    also = _ALSO_RUNS.get(host.machine, ()) + _ALSO_RUNS.get(machine, ())
    if target == host or (target.byte_order == host.byte_order == "little" and _runs(target, (*also, machine))):
        return
    raise ArtifactFault(f"{shown} is built for {target}, this host is {host}.", f"Build it for {host}.")


def _runs(target: Target, machines: Tuple[str, ...]) -> bool:
    """Whether the target is one of these, in its usual width (x32 programs need a kernel option that few have)."""
    return target.machine in machines and target.bits == _USUAL_BITS.get(target.machine)


def _check_interpreter(file: BinaryIO, offset: int, length: int, shown: str) -> None:
    file.seek(min(offset, 1 << 40))
    data = file.read(min(length, _MAX_INTERPRETER_BYTES))
    interpreter = os.fsdecode(data.split(b"\0")[0])
    if not interpreter or not os.path.exists(interpreter):
        raise ArtifactFault(
            f"{shown} needs the dynamic linker {interpreter!r}, which this host does not have.",
            "Build it for this host's C library (glibc or musl), or link it statically.",
        )
