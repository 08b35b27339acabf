"""The command of a release: what its manifest says, or what its files tell."""

from __future__ import annotations

import os
import re
import sys
from typing import Callable, Dict, Optional, Tuple

from agent.errors import ArtifactFault
from agent.manifest import Manifest
from agent.store import dotenv, programs
from agent.store.programs import SHELL, Surroundings, is_file

_MAX_TEXT_BYTES = 64 * 1024
_PROCFILE_LINE = re.compile(r"([A-Za-z0-9_-]+)[ \t]*:[ \t]*(\S.*)")

Command = Tuple[str, ...]


def resolve(directory: str, project: str, manifest: Manifest) -> Command:
    """The argument vector of a release, to be executed in its `directory`; the first word is an absolute path.

    The first of: the manifest's `command`, `run.sh`, `launch.sh`, the Procfile's `web` or only
    line, an executable named like the project, `<project>.pyz` or the only `*.pyz`, `__main__.py`.
    ArtifactFault if there is none, or this host can't execute it.
    """
    search_path = manifest.env.get("PATH") or read_dotenv(directory).get("PATH") or programs.CLEAN_PATH
    around = Surroundings(os.path.abspath(directory), search_path)
    if manifest.command is not None:
        return _from_manifest(manifest.command, around)
    looked_for = ["'command' in anthill.json"]
    for what, find in _FINDERS:
        looked_for.append(what.format(project=project))
        command = find(around, project)
        if command is not None:
            return command
    raise ArtifactFault(
        f"Nothing to run was found. Looked for: {', '.join(looked_for)}. {_listing(directory)}",
        "Add an executable run.sh at the artifact's top, or a 'command' to its anthill.json.",
    )


def read_dotenv(directory: str) -> Dict[str, str]:
    """The variables of the release's `.env`, none without one; ArtifactFault names a bad line."""
    data = _read_text(f"{directory}/.env")
    return {} if data is None else dotenv.parse(data)


def _from_manifest(command: Command, around: Surroundings) -> Command:
    program = command[0]
    if "/" not in program:
        found = around.locate(program)
        if found is None:
            raise ArtifactFault(
                f"manifest: command: there is no program {program!r} on the PATH {around.search_path}.",
                f"Install it on the host, or write './{program}' if it is in the artifact.",
                field="command",
            )
        return (found, *command[1:])
    path = os.path.normpath(os.path.join(around.directory, program))
    inside = path.startswith(around.directory + "/")
    if not inside and not program.startswith("/"):
        raise ArtifactFault(
            f"manifest: command: {program!r} is outside the release.",
            "Name a program of the artifact, or one of the host by its absolute path.",
            field="command",
        )
    if not is_file(path):
        raise ArtifactFault(
            f"manifest: command: {program!r} is no file {'in the artifact' if inside else 'on this host'}.",
            _listing(around.directory),
            field="command",
        )
    return (*programs.argv(path, around), *command[1:])


def _shell_script(name: str) -> Callable[[Surroundings, str], Optional[Command]]:
    def find(around: Surroundings, _: str) -> Optional[Command]:
        path = f"{around.directory}/{name}"
        return programs.argv(path, around, shell_script=True) if is_file(path) else None

    return find


def _procfile(around: Surroundings, _: str) -> Optional[Command]:
    data = _read_text(f"{around.directory}/Procfile")
    if data is None:
        return None
    processes: Dict[str, str] = {}
    for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _PROCFILE_LINE.fullmatch(line)
        if not match or "\0" in line:
            raise ArtifactFault(f"Procfile: line {number} is not 'name: command'.", "Correct the Procfile.")
        if match.group(1) in processes:
            raise ArtifactFault(f"Procfile: line {number} names '{match.group(1)}' again.", "Correct the Procfile.")
        processes[match.group(1)] = match.group(2)
    if not processes:
        raise ArtifactFault("Procfile: there is no process in it.", "Write 'web: ./server' and the like.")
    if "web" not in processes and len(processes) > 1:
        raise ArtifactFault(
            f"Procfile: there is no 'web' among {', '.join(processes)}.",
            "Call one of them web, or launch each of them as a project of its own.",
        )
    return (SHELL, "-c", processes["web"] if "web" in processes else next(iter(processes.values())))


def _named_like_project(around: Surroundings, project: str) -> Optional[Command]:
    path = f"{around.directory}/{project}"
    return programs.argv(path, around) if programs.looks_executable(path) else None


def _zipapp(around: Surroundings, project: str) -> Optional[Command]:
    names = sorted(name for name in os.listdir(around.directory) if name.endswith(".pyz"))
    candidates = [f"{project}.pyz"] if f"{project}.pyz" in names else names
    path = f"{around.directory}/{candidates[0]}" if len(candidates) == 1 else ""
    return _by_python(path, around) if is_file(path) else None


def _main_module(around: Surroundings, _: str) -> Optional[Command]:
    path = f"{around.directory}/__main__.py"
    return _by_python(path, around) if is_file(path) else None


_FINDERS: Tuple[Tuple[str, Callable[[Surroundings, str], Optional[Command]]], ...] = (
    ("run.sh", _shell_script("run.sh")),
    ("launch.sh", _shell_script("launch.sh")),
    ("Procfile", _procfile),
    ("an executable '{project}'", _named_like_project),
    ("'{project}.pyz' or the only *.pyz", _zipapp),
    ("__main__.py", _main_module),
)


def _by_python(path: str, around: Surroundings) -> Command:
    return (around.locate("python3") or sys.executable, path)


def _read_text(path: str) -> Optional[bytes]:
    if not is_file(path):
        return None
    with open(path, "rb") as file:
        data = file.read(_MAX_TEXT_BYTES + 1)
    if len(data) > _MAX_TEXT_BYTES:
        raise ArtifactFault(f"{os.path.basename(path)} has more than {_MAX_TEXT_BYTES} bytes.", "Make it shorter.")
    return data


def _listing(directory: str) -> str:
    names = sorted(os.listdir(directory))
    return f"The artifact's top has: {', '.join(names[:20]) or 'nothing'}{', …' if len(names) > 20 else ''}."
