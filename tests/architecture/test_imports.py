"""Who may import whom. The table is the architecture; a change of it belongs in a commit that says why."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from typing import Iterator, List, Set, Tuple

import pytest

import build
from tests.architecture import sources

#: Module or package → what of the agent it may import. The longest matching row counts; a package may use itself
#: unless the row is a single module's. The package `agent` itself (its __version__) is open to all.
MAY_IMPORT = {
    "agent.errors": (),
    "agent.model": ("agent.errors",),
    "agent.values": ("agent.errors",),
    "agent.manifest_launch": ("agent.model", "agent.values"),
    "agent.permissions": ("agent.errors", "agent.model", "agent.values"),
    "agent.manifest": ("agent.errors", "agent.model", "agent.values", "agent.manifest_launch", "agent.permissions"),
    "agent.config": ("agent.errors", "agent.model"),
    "agent.build": ("agent.host.drafts",),
    "agent.host": ("agent.errors",),
    "agent.store": ("agent.host", "agent.model", "agent.manifest", "agent.errors"),
    "agent.shim": ("agent.host", "agent.model", "agent.errors", "agent.store.layout", "agent.store.segments"),
    "agent.shim.machine": ("agent.model",),
    "agent.shim.restarts": ("agent.model",),
    "agent.shim.handle": (
        "agent.shim.record", "agent.host", "agent.model", "agent.errors", "agent.store.layout", "agent.store.segments",
    ),
    "agent.operations": (
        "agent.store", "agent.shim.handle", "agent.shim.record", "agent.shim.machine", "agent.shim.rights", "agent.shim.sockets",
        "agent.model", "agent.manifest", "agent.errors", "agent.host", "agent.build",
    ),
    "agent.operations.bootstrap": (
        "agent.operations", "agent.store", "agent.shim.record", "agent.config", "agent.model", "agent.errors", "agent.host",
        "agent.build",
    ),
    "agent.web.main": (
        "agent.web", "agent.operations", "agent.shim.handle", "agent.shim.machine",
        "agent.config", "agent.model", "agent.errors", "agent.store.layout",
        "agent.store.keys", "agent.store.unpacker", "agent.host",
    ),
    "agent.web": ("agent.operations", "agent.config", "agent.model", "agent.errors", "agent.store", "agent.host"),
    "agent.connection": ("agent.config", "agent.errors"),
    "agent.download": ("agent.connection",),
    "agent.client": ("agent.connection", "agent.download", "agent.config", "agent.model", "agent.errors", "agent.store.layout"),
    "agent.cli": ("agent.client", "agent.connection", "agent.download", "agent.config", "agent.model", "agent.errors"),
    "agent.cli.simple": ("agent.cli", "agent.client", "agent.build"),
    # it works on the host without the agent's help: the agent may be what is stuck
    "agent.cli.stop": (
        "agent.cli", "agent.config", "agent.model", "agent.errors", "agent.host", "agent.shim.record", "agent.store.layout",
    ),
    # and this one is run where no agent is yet
    "agent.cli.install": (
        "agent.cli", "agent.client", "agent.config", "agent.model", "agent.errors", "agent.host", "agent.store.layout",
    ),
    "agent.cli.trust": ("agent.config", "agent.errors", "agent.host.certificates", "agent.store.layout"),
    "agent.cli.tls_init": ("agent.cli", "agent.config", "agent.errors", "agent.host.files"),
    # so does this: whoever may read the store needs no key to make one
    "agent.cli.token": (
        "agent.cli", "agent.config", "agent.model", "agent.errors", "agent.host.clock", "agent.store.keys", "agent.store.layout",
    ),
    # it signs what it sends
    "agent.cli.launch": ("agent.cli", "agent.client", "agent.errors", "agent.model", "agent.host.sshsig"),
    # they look at the host itself
    "agent.cli.checks": ("agent.model", "agent.host", "agent.store.keys", "agent.store.layout"),
    "agent.cli.trial": ("agent.cli", "agent.client", "agent.errors", "agent.host.procfs"),
    "agent.cli.doctor": ("agent.cli", "agent.config", "agent.errors", "agent.host.files", "agent.store.layout"),
    "agent.__main__": ("agent.config", "agent.errors", "agent.store.installed"),
}  # fmt: skip
#: What a subcommand hands over to; imported inside a function, so that the other subcommands start without it.
SUBCOMMANDS = (
    "agent.web.entry", "agent.web.main", "agent.store.unpacker", "agent.shim.main", "agent.operations.bootstrap",
    "agent.cli.main", "agent.cli.upgrade",
)  # fmt: skip
BY_SUBCOMMAND = ("agent.__main__", "agent.cli", "agent.client")

#: Vendored package → the only places that may import it.
VENDORED = {
    "bottle": ("agent.web",),
    "multipart": ("agent.web",),
    "waitress": ("agent.web.server", "agent.web.workers", "agent.web.channel", "agent.web.admission", "agent.web.front"),
}
#: These two decide and do nothing: the same input gives the same decision, whatever the clock or the host.
PURE = ("agent.shim.machine", "agent.shim.restarts")
IMPURE = ("os", "time", "signal", "subprocess", "random")

PATHS = sources.files("agent", suffix=".py")


def module_of(path: str) -> str:
    return path[: -len(".py")].replace(os.sep, ".").replace(".__init__", "")


MODULES = {module_of(path) for path in PATHS}


def imports(path: str) -> Iterator[Tuple[int, str, bool]]:
    """(line, module, whether inside a function) of everything that a file imports."""
    tree = sources.parse(path)
    inside: Set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inside.update(id(child) for child in ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, id(node) in inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are written in full, from agent on"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield node.lineno, whole if whole in MODULES else str(node.module), id(node) in inside


def is_below(module: str, *places: str) -> bool:
    return any(module == place or module.startswith(place + ".") for place in places)


def allowed(importer: str, module: str, in_function: bool) -> bool:
    """Whether the table lets one module of the agent import another."""
    row = max((name for name in MAY_IMPORT if is_below(importer, name)), key=len, default="")
    if module == "agent" or (row and is_below(module, *MAY_IMPORT[row])):
        return True
    if is_below(importer, *BY_SUBCOMMAND) and module in SUBCOMMANDS:
        return in_function
    # a row of a package covers the package's own modules, a row of one module nothing but itself
    return row != importer and row != "" and is_below(module, row)


def is_of_python(module: str) -> bool:
    """Whether a module belongs to the standard library of this Python, or to that of a newer one."""
    top = module.partition(".")[0]
    spec = importlib.util.find_spec(top)
    if spec is None:
        return top in ("tomllib", "compression")
    return spec.origin in ("built-in", "frozen") or not {"site-packages", "dist-packages"} & set(str(spec.origin).split(os.sep))


def violations(path: str) -> List[str]:
    importer = module_of(path)
    found = []
    for line, module, in_function in imports(path):
        top = module.partition(".")[0]
        if top == "agent":
            fine = allowed(importer, module, in_function)
        elif top in VENDORED:
            fine = is_below(importer, *VENDORED[top])
        else:
            fine = is_of_python(module) and not (importer in PURE and top in IMPURE)
        if not fine:
            found.append(f"{path}:{line}: {importer} may not import {module}")
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("path", PATHS)
def test_only_what_the_table_allows(path: str) -> None:
    assert violations(path) == []


def test_every_module_has_a_row() -> None:
    packages = {module for module in MODULES if os.path.isdir(os.path.join(build.ROOT, *module.split(".")))}
    without = {module for module in MODULES - packages if not is_below(module, *MAY_IMPORT)}
    assert without == set()


@pytest.mark.parametrize(
    ("importer", "module", "in_function", "verdict"),
    [
        ("agent.errors", "agent.model", False, False),
        ("agent.model", "agent.errors", False, True),
        ("agent.store.logs", "agent.store.layout", False, True),
        ("agent.store.logs", "agent.operations.kill", False, False),
        ("agent.shim.tree", "agent.shim.capture", False, True),
        ("agent.shim.tree", "agent.store.layout", False, True),
        ("agent.shim.tree", "agent.store.artifacts", False, False),
        ("agent.shim.handle", "agent.shim.record", False, True),
        ("agent.shim.handle", "agent.shim.main", True, False),
        ("agent.shim.machine", "agent.shim.record", False, False),
        ("agent.operations.kill", "agent.shim.handle", False, True),
        ("agent.operations.kill", "agent.shim.main", False, False),
        ("agent.web.routes", "agent.shim.record", False, False),
        ("agent.cli.main", "agent.client", False, True),
        ("agent.client", "agent.cli.main", False, False),
        ("agent.__main__", "agent.web.main", False, False),
        ("agent.__main__", "agent.web.main", True, True),
    ],
)
def test_the_rule_itself(importer: str, module: str, in_function: bool, verdict: bool) -> None:
    assert allowed(importer, module, in_function) is verdict


#: Modules of the standard library that have something done in every fork (os.register_at_fork): it costs each shim memory, and
#: `random` alone reads the kernel's random numbers and loads hashlib.
AT_FORK = {"concurrent.futures.thread", "logging", "multiprocessing.util", "random", "threading"}


def test_a_shim_has_nothing_loaded_that_acts_in_every_fork() -> None:
    script = f"import sys; sys.path.insert(0, {build.ROOT!r}); import agent.shim.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], stdout=subprocess.PIPE, check=True)
    loaded = set(done.stdout.decode().split())
    assert "agent.shim.resident" in loaded
    assert loaded & AT_FORK == set()
