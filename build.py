#!/usr/bin/env python3
"""Builds, runs, tests, checks and releases ant-host-agent. It needs nothing but the standard library.

    python3 build.py build      dist/ant-host-agent.pyz: the agent and its dependencies, bit for bit the same everywhere
    python3 build.py run        build, then serve; further words go to the agent (run --listen 127.0.0.1:4500)
    python3 build.py test       build, then pytest in .venv; further words go to pytest (test tests/unit -k record)
    python3 build.py check      ruff and mypy --strict
    python3 build.py bench      build, then the measurements; further words go to them
    python3 build.py release    clean build, rebuilt twice and compared; SHA256SUMS and release.json beside it
    python3 build.py clean      remove .venv, .cache and what is in dist/

Downloads (the wheels below, the tools in tests/requirements.txt) go through pip as this machine has it set up,
once; afterwards everything works offline. This file keeps to ASCII and to syntax that Python 3.6 can read, so
that an old Python gets to the sentence that refuses it.
"""

import ast
import hashlib
import importlib.util
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tokenize
import zipfile
import zlib
from typing import Callable, Dict, List, NamedTuple, Tuple

# Python 2 can't read annotations: what it prints as its syntax error is this line.
NEEDED: str = "build.py needs CPython 3.9 to 3.13; start it with such a python3"

if sys.implementation.name != "cpython" or not (3, 9) <= sys.version_info[:2] <= (3, 13):
    sys.stderr.write("%s. This is %s %s.\n" % (NEEDED, sys.implementation.name, platform.python_version()))
    sys.exit(2)

PROJECT = "ant-host-agent"
DESCRIPTION = "Launches, supervises, logs and kills the projects of one host."
ROOT = os.path.dirname(os.path.abspath(__file__))
DIST = os.path.join(ROOT, "dist")
PYZ = os.path.join(DIST, PROJECT + ".pyz")
CACHE = os.path.join(ROOT, ".cache")
VENV = os.path.join(ROOT, ".venv")
VENV_PYTHON = os.path.join(VENV, "bin", "python")
REQUIREMENTS = os.path.join(ROOT, "tests", "requirements.txt")

#: What of agent/ goes into the zipapp; notes for developers (*.md) stay in the repository.
SHIPPED = (".py", ".html", ".css", ".js", ".json", ".svg")


class Dependency(NamedTuple):
    """A pure Python wheel that is vendored: `sources` are the files taken, `licence` goes along."""

    name: str
    version: str
    wheel: str
    sha256: str
    sources: Tuple[str, ...]
    licence: str


#: All of Waitress but its own command line (`runner`, `__main__`).
WAITRESS = (
    "__init__ adjustments buffers channel compat parser proxy_headers receiver rfc7230 server task trigger utilities wasyncore"
).split()

#: The one table of what the agent ships of others. A new version is a new row with a new hash.
DEPENDENCIES = (
    Dependency(
        "bottle",
        "0.13.4",
        "bottle-0.13.4-py2.py3-none-any.whl",
        "045684fbd2764eac9cdeb824861d1551d113e8b683d8d26e296898d3dd99a12e",
        ("bottle.py",),
        "bottle-0.13.4.dist-info/licenses/LICENSE",
    ),
    Dependency(
        "waitress",
        "3.0.2",
        "waitress-3.0.2-py3-none-any.whl",
        "c56d67fd6e87c2ee598b76abdd4e96cfad1f24cacdea5078d382b1f9d7b5ed2e",
        tuple("waitress/%s.py" % name for name in WAITRESS),
        "waitress-3.0.2.dist-info/LICENSE.txt",
    ),
    Dependency(
        "multipart",
        "1.3.1",
        "multipart-1.3.1-py3-none-any.whl",
        "a82b59e1befe74d3d30b3d3f70efd5a2eba4d938f845dcff9faace968888ff29",
        ("multipart.py",),
        "multipart-1.3.1.dist-info/licenses/LICENSE",
    ),
)

#: The zipapp's own __main__.py. Python 2.7 and 3.6 can read it, so that they refuse in a sentence, not a traceback.
ENTRY = '''\
"""Refuses a host that can't run the agent, in one sentence; else hands over to agent.__main__."""

import sys

if sys.version_info < (3, 9):
    sys.stderr.write("ant-host-agent needs Python 3.9 or newer; this is Python %d.%d.\\n" % sys.version_info[:2])
    sys.exit(2)
if not sys.platform.startswith("linux"):
    sys.stderr.write("ant-host-agent runs on Linux only; this is %s.\\n" % sys.platform)
    sys.exit(2)

from agent.__main__ import main

sys.exit(main())
'''


class BuildError(Exception):
    """Why it can't go on and what to do about it, in a sentence."""


# The zipapp


def build() -> str:
    """Write dist/ant-host-agent.pyz, whole or not at all; its path. BuildError if a dependency can't be had."""
    contents = collect()
    contents["anthill.json"] = manifest(contents)
    temporary = "%s.%d.tmp" % (PYZ, os.getpid())
    os.makedirs(DIST, exist_ok=True)
    with open(temporary, "wb") as file:
        file.write(pack(contents))
        os.fchmod(file.fileno(), 0o755)  # whatever the umask
    os.replace(temporary, PYZ)
    return PYZ


def collect() -> Dict[str, bytes]:
    """Every member but the manifest, by its name in the zipapp."""
    contents = {"__main__.py": ENTRY.encode()}
    for path in agent_files():
        contents[os.path.relpath(path, ROOT).replace(os.sep, "/")] = read(path)
    for dependency in DEPENDENCIES:
        contents.update(vendored(dependency))
    return contents


def agent_files() -> List[str]:
    """The paths of all files under agent/ that are shipped."""
    found = []
    for folder, folders, files in os.walk(os.path.join(ROOT, "agent")):
        folders[:] = [name for name in folders if name != "__pycache__"]
        found += [os.path.join(folder, name) for name in files if name.endswith(SHIPPED)]
    return found


def vendored(dependency: Dependency) -> Dict[str, bytes]:
    """The members that one wheel gives: its sources where they were, its licence under licences/."""
    with zipfile.ZipFile(io.BytesIO(wheel(dependency))) as archive:
        contents = {name: stripped(archive.read(name)) for name in dependency.sources}
        contents["licences/%s.txt" % dependency.name] = archive.read(dependency.licence)
    return contents


#: In the place of the first line of what was changed, or behind its last; the licences ask for it, Waitress's for the date, too.
NOTICE = b"# Changed on 2026-11-25, without most comments and docstrings. See licences/."


def stripped(source: bytes) -> bytes:
    """The same program without comments and docstrings, its lines where they were, so that a traceback tells the truth.

    That is a twelfth of the zipapp. What says above the code whose it is stays, but for the first line. An empty docstring stays,
    so that no body becomes empty.
    """
    lines = source.splitlines()
    head = next(row for row, line in enumerate(lines) if line and not line.startswith(b"#"))
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        row, column = token.start
        if token.type == tokenize.COMMENT and row > head:
            lines[row - 1] = lines[row - 1].decode()[:column].rstrip().encode()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            text = node.body[0]
            first, last = text.lineno - 1, text.end_lineno or 0
            blank = [b""] * (last - first - 1)
            lines[first:last] = [lines[first][: text.col_offset] + b'""' + lines[last - 1][text.end_col_offset :], *blank]
    has_head = source.startswith(b"#")
    return b"\n".join([NOTICE, *lines[1:], b""] if has_head else [*lines, NOTICE, b""])


def manifest(contents: Dict[str, bytes]) -> bytes:
    """The agent's own anthill.json: its version names the content, so two builds are equal or named differently."""
    digest = hashlib.sha256()
    for name in sorted(contents):
        digest.update(b"%s\0%d\0" % (name.encode(), len(contents[name])) + contents[name])
    found = re.search(rb'^__version__ = "([^"]+)"', contents["agent/__init__.py"], re.MULTILINE)
    if found is None:
        raise BuildError('agent/__init__.py has no line __version__ = "..."; the build takes the version from there.')
    version = "%s+%s" % (found.group(1).decode(), digest.hexdigest()[:8])
    document = {"project": PROJECT, "version": version, "description": DESCRIPTION}
    return json.dumps(document, indent=1).encode() + b"\n"


def pack(contents: Dict[str, bytes]) -> bytes:
    """A zip of these members behind a shebang (PEP 441): sorted, with fixed times and modes.

    The bytes depend on nothing else but zlib's deflate, which has given the same for all of zlib 1.2 and 1.3.
    """
    stream = io.BytesIO()
    stream.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(stream, "w") as archive:
        for name in sorted(contents):
            member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            member.create_system = 3  # Unix, so that the mode below means something
            member.external_attr = 0o100644 << 16
            archive.writestr(member, contents[name], zipfile.ZIP_DEFLATED, 9)
    return stream.getvalue()


def version_of(pyz: str) -> str:
    """The version that a built zipapp says it is."""
    with zipfile.ZipFile(pyz) as archive:
        return str(json.loads(archive.read("anthill.json"))["version"])


# Downloads and the environment of the tools


def wheel(dependency: Dependency) -> bytes:
    """The bytes of a pinned wheel, from .cache/wheels or, once, through pip; always the pinned hash."""
    data = read(fetch(dependency))
    actual = hashlib.sha256(data).hexdigest()
    if actual != dependency.sha256:
        os.unlink(wheel_path(dependency))
        raise BuildError(
            "%s has sha256 %s but build.py pins %s: the package index sent something else, or the cached file was "
            "damaged. It is deleted; try again." % (dependency.wheel, actual, dependency.sha256)
        )
    return data


def wheel_path(dependency: Dependency) -> str:
    return os.path.join(CACHE, "wheels", dependency.wheel)


def fetch(dependency: Dependency) -> str:
    """The path of the wheel in the cache; pip downloads it if it is not there."""
    path = wheel_path(dependency)
    if os.path.exists(path):
        return path
    pinned = "%s==%s" % (dependency.name, dependency.version)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        pip(pip_python(), "download", "--no-deps", "--only-binary", ":all:", "--dest", folder, pinned)
        if not os.path.exists(os.path.join(folder, dependency.wheel)):
            raise BuildError("pip fetched %s instead of %s." % (", ".join(os.listdir(folder)), dependency.wheel))
        os.replace(os.path.join(folder, dependency.wheel), path)
    return path


def pip(python: str, *words: str) -> None:
    """Run pip; its own words go to stderr, so that stdout stays ours."""
    command = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    if subprocess.call(command, stdout=sys.stderr.fileno()):
        raise BuildError("'pip %s' failed; the reason is above. Is a package index reachable?" % " ".join(words[:1]))


def pip_python() -> str:
    """An interpreter that has pip: this one, else that of a .venv."""
    if importlib.util.find_spec("pip"):
        return sys.executable
    if not os.path.exists(VENV_PYTHON):
        make_venv()
    return VENV_PYTHON


def make_venv() -> None:
    """A new, empty .venv with pip. BuildError where the distribution has cut venv out of its Python."""
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        raise BuildError(
            "This Python (%s) comes without venv and ensurepip. On Debian and Ubuntu 'apt-get install python3-venv' "
            "brings them; or start build.py with another Python 3.9 to 3.13." % sys.executable
        )
    sys.stderr.write("Making .venv (once) ...\n")
    if subprocess.call([sys.executable, "-m", "venv", "--clear", VENV]):
        raise BuildError("'python -m venv' failed; the reason is above.")


def environment() -> str:
    """The interpreter of .venv with every pinned tool; made anew when a pin or the Python has changed."""
    wheels = [dependency.wheel + dependency.sha256 for dependency in DEPENDENCIES]
    wanted = "\n".join([sys.version, sys.base_prefix, *wheels, read(REQUIREMENTS).decode()])
    stamp = os.path.join(VENV, "pins")
    if os.path.exists(stamp) and read(stamp).decode() == wanted and os.path.exists(VENV_PYTHON):
        return VENV_PYTHON
    for dependency in DEPENDENCIES:
        wheel(dependency)
    make_venv()
    vendored_wheels = [wheel_path(dependency) for dependency in DEPENDENCIES]
    pip(VENV_PYTHON, "install", "--no-deps", "--only-binary", ":all:", "-r", REQUIREMENTS, *vendored_wheels)
    pip(VENV_PYTHON, "check")
    with open(stamp, "w", encoding="utf-8") as file:
        file.write(wanted)
    return VENV_PYTHON


# The subcommands


def build_command(words: List[str]) -> int:
    build()
    print("%s  %s  %d bytes  sha256 %s" % (PYZ, version_of(PYZ), os.path.getsize(PYZ), sha256(PYZ)))
    return 0


def run_command(words: List[str]) -> int:
    return become(sys.executable, "-I", build(), "serve", *words)


def test_command(words: List[str]) -> int:
    return with_pyz("pytest", *words)


def bench_command(words: List[str]) -> int:
    return with_pyz("tests.bench", *words)


def check_command(words: List[str]) -> int:
    python = environment()
    ruff = subprocess.call([python, "-m", "ruff", "check", "."], cwd=ROOT)
    mypy = subprocess.call([python, "-m", "mypy", "--strict", "agent", "build.py"], cwd=ROOT)
    return 1 if ruff or mypy else 0


def release_command(words: List[str]) -> int:
    """Build three times, in three processes with other hash seeds, and vouch for the result in two files."""
    empty_dist()
    digests = set()
    for seed in ("0", "1", "random"):
        environ = dict(os.environ, PYTHONHASHSEED=seed)
        if subprocess.call([sys.executable, __file__, "build"], env=environ, stdout=subprocess.DEVNULL):
            raise BuildError("A build failed; the reason is above.")
        digests.add(sha256(PYZ))
    if len(digests) != 1:
        raise BuildError("Three builds of the same sources gave %d different files." % len(digests))
    document = {
        "schema": 1,
        "version": version_of(PYZ),
        "sha256": sha256(PYZ),
        "size_bytes": os.path.getsize(PYZ),
        "builder": {"python": platform.python_version(), "zlib": zlib.ZLIB_RUNTIME_VERSION},
        "dependencies": [
            {"name": each.name, "version": each.version, "wheel": each.wheel, "sha256": each.sha256} for each in DEPENDENCIES
        ],
    }
    with open(os.path.join(DIST, "release.json"), "w", encoding="utf-8") as file:
        file.write(json.dumps(document, indent=1) + "\n")
    with open(os.path.join(DIST, "SHA256SUMS"), "w", encoding="utf-8") as file:
        for path in (PYZ, os.path.join(DIST, "release.json")):
            file.write("%s  %s\n" % (sha256(path), os.path.basename(path)))
    print("dist/: %s.pyz %s, SHA256SUMS, release.json" % (PROJECT, document["version"]))
    return 0


def clean_command(words: List[str]) -> int:
    empty_dist()
    for folder in (VENV, CACHE):
        shutil.rmtree(folder, ignore_errors=True)
    for folder, folders, _ in os.walk(ROOT):
        for name in {"__pycache__", ".git"}.intersection(folders):
            folders.remove(name)
            if name == "__pycache__":
                shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
    return 0


def with_pyz(module: str, *words: str) -> int:
    """Build, then become a module of .venv that finds the zipapp in ANT_TEST_PYZ."""
    os.environ["ANT_TEST_PYZ"] = build()
    python = environment()
    os.chdir(ROOT)
    return become(python, "-m", module, *words)


def become(*command: str) -> int:
    """Go on as another program in this process, so that Ctrl-C and the exit status are its own."""
    sys.stdout.flush()
    os.execv(command[0], command)


def empty_dist() -> None:
    for name in os.listdir(DIST) if os.path.isdir(DIST) else []:
        if name != ".gitkeep":
            os.unlink(os.path.join(DIST, name))


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def sha256(path: str) -> str:
    return hashlib.sha256(read(path)).hexdigest()


COMMANDS: Dict[str, Callable[[List[str]], int]] = {
    "build": build_command,
    "run": run_command,
    "test": test_command,
    "check": check_command,
    "bench": bench_command,
    "release": release_command,
    "clean": clean_command,
}
#: Those that hand further words on.
PASSING = ("run", "test", "bench")


def main(words: List[str]) -> int:
    """Run one subcommand; 2 for a wrong call, 1 with a sentence on stderr for what fails."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(__doc__)
        return 0 if words else 2
    command, rest = words[0], words[1:]
    if command not in COMMANDS:
        sys.stderr.write("build.py has no '%s'; it has %s.\n" % (command, ", ".join(COMMANDS)))
        return 2
    if rest and command not in PASSING:
        sys.stderr.write("'%s' takes no further words, but '%s' was given.\n" % (command, " ".join(rest)))
        return 2
    try:
        return COMMANDS[command](rest)
    except BuildError as error:
        sys.stderr.write("build.py: %s\n" % error)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
