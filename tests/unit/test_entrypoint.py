"""The command of a release: the order in which it is looked for, and what this host can't execute."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from typing import Dict, Optional, Tuple

import pytest

from agent.errors import ArtifactFault
from agent.manifest import Manifest
from agent.store import elf, entrypoint

SH = b"#!/bin/sh\n"


class Release:
    """A release's directory, with a folder `bin` of its own as the only one on its PATH."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("bin/python3", SH, 0o755)

    def write(self, name: str, content: bytes, mode: int = 0o644) -> str:
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
        return str(path)

    def path(self, name: str) -> str:
        return str(self.root / name)

    def resolve(self, command: Optional[Tuple[str, ...]] = None) -> Tuple[str, ...]:
        manifest = Manifest(command=command, env={"PATH": self.path("bin")})
        return entrypoint.resolve(str(self.root), "web", manifest)

    def refusal(self, command: Optional[Tuple[str, ...]] = None) -> str:
        with pytest.raises(ArtifactFault) as refused:
            self.resolve(command)
        assert refused.value.hint
        return refused.value.detail


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return Release(tmp_path)


def test_the_first_match_wins(release: Release) -> None:
    python = release.path("bin/python3")
    ladder = [
        ("__main__.py", b"print()", (python, release.path("__main__.py"))),
        ("other.pyz", b"PK", (python, release.path("other.pyz"))),
        ("web.pyz", b"PK", (python, release.path("web.pyz"))),
        ("web", SH, ("/bin/sh", release.path("web"))),
        ("Procfile", b"web: ./serve", ("/bin/sh", "-c", "./serve")),
        ("launch.sh", SH, ("/bin/sh", release.path("launch.sh"))),
        ("run.sh", SH, ("/bin/sh", release.path("run.sh"))),
    ]
    for name, content, expected in ladder:
        release.write(name, content)
        assert release.resolve() == expected, name
    assert release.resolve(("./web", "x")) == ("/bin/sh", release.path("web"), "x")


def test_nothing_to_run_names_what_was_looked_for(release: Release) -> None:
    release.write("README", b"hello")
    (release.root / "run.sh").mkdir()
    detail = release.refusal()
    for name in ("'command'", "run.sh", "launch.sh", "Procfile", "'web'", "'web.pyz'", "*.pyz", "__main__.py"):
        assert name in detail


def test_two_zipapps_and_none_like_the_project_are_no_match(release: Release) -> None:
    release.write("a.pyz", b"PK")
    release.write("b.pyz", b"PK")
    assert "Nothing to run" in release.refusal()


def test_a_text_named_like_the_project_is_no_match(release: Release) -> None:
    release.write("web", b"some text")
    assert "Nothing to run" in release.refusal()


# Scripts


@pytest.mark.parametrize(
    ("content", "mode", "expected"),
    [
        (SH, 0o755, ()),
        (SH, 0o644, ("/bin/sh",)),
        (b"#! /bin/sh -e\t\n", 0o644, ("/bin/sh", "-e")),
        (b"#!/bin/sh -e -u\n", 0o644, ("/bin/sh", "-e -u")),
        (b"#!/usr/bin/env python3\n", 0o644, ("/usr/bin/env", "python3")),
        (b"#!/usr/bin/env -S A=b python3 -u\n", 0o755, ()),
        (b"#!/usr/bin/env -S PATH=/nowhere whatever\n", 0o755, ()),
        (b"#!/bin/sh", 0o755, ()),
        (b"echo hello\n", 0o644, ("/bin/sh",)),
        (b"echo hello\n", 0o755, ("/bin/sh",)),
    ],
)
def test_a_script_is_run_as_the_kernel_would(content: bytes, mode: int, expected: Tuple[str, ...], release: Release) -> None:
    path = release.write("run.sh", content, mode)
    assert release.resolve() == (*expected, path)


def test_an_interpreter_may_be_in_the_release(release: Release) -> None:
    path = release.write("run.sh", b"#!bin/python3\n")
    assert release.resolve() == (release.path("bin/python3"), path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "run.sh is empty"),
        (b"\n\n", "run.sh is empty"),
        (b"#!/bin/sh\r\necho\r\n", "Windows line ends"),
        (b"echo\r\n", "Windows line ends"),
        (b"\xef\xbb\xbf#!/bin/sh\n", "byte order mark"),
        (b"#!\n", "without an interpreter"),
        (b"#!/opt/none/ruby -w\n", "needs the interpreter '/opt/none/ruby'"),
        (b"#!/etc/passwd\n", "needs the interpreter '/etc/passwd'"),
        (b"#!/usr/bin/env none-such\n", "needs the interpreter 'none-such'"),
        (b"#!/usr/bin/env -S -i none-such -x\n", "needs the interpreter 'none-such'"),
        (b"#!/usr/bin/env bin/none\n", "needs the interpreter 'bin/none'"),
        (b"#!/usr/bin/env -S 'python3\n", "can't be split"),
        (b"#!/usr/bin/env python3 -u\n", "a program of that whole name"),
        (b"#!/usr/bin/env\n", "no program"),
        (b"#!/" + b"x" * 300 + b"\n", "more than 255 bytes"),
        (b"\x00\x01\x02", "neither an ELF file nor a script"),
    ],
)
@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_a_script_that_can_not_run_is_refused(content: bytes, reason: str, mode: int, release: Release) -> None:
    release.write("run.sh", content, mode)
    assert reason in release.refusal()


def test_the_search_path_is_the_projects_own(release: Release) -> None:
    release.write("run.sh", b"#!/usr/bin/env tool\n", 0o755)
    release.write("tools/tool", SH, 0o755)
    assert "'tool'" in release.refusal()
    release.write(".env", b"PATH=/bin:tools\n")
    assert entrypoint.resolve(str(release.root), "web", Manifest()) == (release.path("run.sh"),)


def test_without_python3_on_the_path_the_agents_own_is_taken(release: Release) -> None:
    os.unlink(release.path("bin/python3"))
    path = release.write("__main__.py", b"")
    assert release.resolve() == (sys.executable, path)


# The manifest's command


def test_a_command_is_found_on_the_path_or_in_the_release(release: Release) -> None:
    serve = release.write("serve", SH, 0o755)
    assert release.resolve(("python3", "-m", "x")) == (release.path("bin/python3"), "-m", "x")
    assert release.resolve(("./serve", "-p")) == (serve, "-p")
    assert release.resolve(("bin/../serve",)) == (serve,)
    assert release.resolve(("/bin/sh", "-c", "exit")) == ("/bin/sh", "-c", "exit")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("none-such", "no program 'none-such' on the PATH"),
        ("serve", "no program 'serve' on the PATH"),
        ("./none", "'./none' is no file in the artifact"),
        ("bin/", "'bin/' is no file in the artifact"),
        ("/none", "'/none' is no file on this host"),
        ("../x", "'../x' is outside the release"),
        ("./text", "text is neither an ELF file nor a script"),
    ],
)
def test_a_command_that_is_not_there_is_refused(command: str, reason: str, release: Release) -> None:
    release.write("serve", SH, 0o755)
    release.write("text", b"hello", 0o755)
    assert reason in release.refusal((command,))


# Procfile


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("web: ./a --b\n", "./a --b"),
        ("# comment\n\nworker:./a\r\n", "./a"),
        ("worker: ./a\nweb: ./b\n", "./b"),
    ],
)
def test_a_procfile_gives_its_web_or_only_line(text: str, command: str, release: Release) -> None:
    release.write("Procfile", text.encode())
    assert release.resolve() == ("/bin/sh", "-c", command)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: ./a\nb: ./b\n", "no 'web' among a, b"),
        ("web ./a\n", "line 1 is not"),
        ("\nweb:\n", "line 2 is not"),
        ("web: a\nweb: b\n", "line 2 names 'web' again"),
        ("# nothing\n", "no process"),
        ("web: x" * 20_000, "more than 65536 bytes"),
    ],
)
def test_a_procfile_that_gives_none_is_refused(text: str, reason: str, release: Release) -> None:
    release.write("Procfile", text.encode())
    assert reason in release.refusal()


# ELF


def elf_file(machine: int = 62, bits: int = 64, order: str = "<", kind: int = 2, interpreter: bytes = b"") -> bytes:
    """The headers of an ELF program with one segment: what names its interpreter, or all of it."""
    wide = bits == 64
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    at, segment_bytes = (64, 56) if wide else (52, 32)
    header = struct.pack(
        order + ("2HL3QL6H" if wide else "2HL3LL6H"), kind, machine, 1, 0, at, 0, 0, at, segment_bytes, 1, 0, 0, 0
    )
    what, offset, size = (3, at + segment_bytes, len(interpreter)) if interpreter else (1, 0, at + segment_bytes)
    if wide:
        segment = struct.pack(order + "2L6Q", what, 5, offset, 0, 0, size, size, 1)
    else:
        segment = struct.pack(order + "8L", what, offset, 0, 0, size, size, 5, 1)
    return ident + header + segment + interpreter


def host_elf(interpreter: bytes = b"") -> bytes:
    host = elf.host_target()
    machine = next(number for number, name in elf._MACHINES.items() if name == host.machine)
    return elf_file(machine, host.bits, "<" if host.byte_order == "little" else ">", interpreter=interpreter)


def test_an_elf_file_for_this_host_is_executed(release: Release) -> None:
    path = release.write("web", host_elf(), 0o755)
    assert release.resolve() == (path,)
    release.write("web", host_elf(b"/bin/sh\0"), 0o755)
    assert release.resolve() == (path,)


ALIEN: Dict[str, Tuple[bytes, str]] = {
    "s390x": (elf_file(22, 64, ">"), "s390x (64 bits, big-endian)"),
    "big-endian arm": (elf_file(40, 32, ">"), "arm (32 bits, big-endian)"),
    "unknown": (elf_file(9999), "CPU number 9999 (64 bits, little-endian)"),
    "header only": (elf_file(243)[:24], "riscv64"),
}


@pytest.mark.parametrize("case", ALIEN)
def test_an_elf_file_for_another_cpu_is_refused(case: str, release: Release) -> None:
    data, target = ALIEN[case]
    release.write("web", data, 0o755)
    assert f"web is built for {target}, this host is {elf.host_target()}" in release.refusal()


def test_the_other_usual_cpu_is_refused_by_name(release: Release) -> None:
    number, name = (183, "aarch64") if elf.host_target().machine == "x86_64" else (62, "x86_64")
    release.write("run.sh", elf_file(number), 0o755)
    assert f"run.sh is built for {name}, this host is {elf.host_target()}" in release.refusal()


def test_an_elf_file_that_can_not_run_is_refused(release: Release) -> None:
    for data, mode, reason in (
        (host_elf(), 0o644, "no run bit"),
        (host_elf(b"/lib/ld-none.so.1\0"), 0o755, "dynamic linker '/lib/ld-none.so.1'"),
        (host_elf()[:70], 0o755, "damaged ELF"),
        (host_elf()[:30], 0o755, "damaged ELF"),
        (b"\x7fELF", 0o755, "damaged ELF"),
        (b"\x7fELF" + bytes(60), 0o755, "damaged ELF"),
        (host_elf().replace(b"\2\0", b"\1\0", 1), 0o755, "not a linked program"),
    ):
        release.write("run.sh", data, mode)
        assert reason in release.refusal()


def test_the_running_python_can_run(release: Release) -> None:
    release.write("web", Path("/proc/self/exe").read_bytes(), 0o755)
    assert release.resolve() == (release.path("web"),)
    release.write("web", Path("/proc/self/exe").read_bytes()[:9000], 0o755)
    assert "cut short" in release.refusal()
