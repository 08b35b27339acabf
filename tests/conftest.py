"""What every test may use: the built zipapp, the interpreters of this machine, and no skip without a known reason."""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
import sys
from typing import Dict, Generator, List, Optional, Tuple

import hypothesis
import hypothesis.configuration
import pytest

import build

#: Why a test may be skipped in CI, as patterns of the whole reason; any other skip fails there.
ALLOWED_SKIPS = (
    r"no Python older than 3\.9 is on this machine",
    r"needs root",
    r"no host can be emulated here: (?s:.*)",  # without qemu, mmdebstrap, a mirror or the rights to make an image
    r"needs a writable cgroup v2 tree",
    r"chromium does not start here",
    r"atheris can't be installed here: (?s:.*)",  # it has wheels for Linux on x86-64 only
    r"needs to mount a (tmpfs|disk image)",
    r"needs a namespace of processes",
    r"ssh-keygen is not installed",
    r"\w+ is not installed",  # an optional program; .ci/run installs what it can
)

#: The folders whose tests have a marker without saying so.
MARKED_FOLDERS = ("e2e", "process", "chaos")

IN_CI = os.environ.get("CI") == "true"
SLOW_TOO = os.environ.get("ANT_SLOW") == "1" or not IN_CI
OLDEST, NEWEST = "3.9", "3.13"

_PROBE = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
_TESTS = os.path.dirname(os.path.abspath(__file__))
_PLACES = ("~/.pyenv/versions/{0}.*/bin/python{0}", "/usr/local/bin/python{0}", "/usr/bin/python{0}")

hypothesis.configuration.set_hypothesis_home_dir(os.path.join(build.CACHE, "hypothesis"))
# No test depends on chance or on how fast this machine is: always the same examples, however long one takes.
hypothesis.settings.register_profile("always the same", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("always the same")


@pytest.fixture(scope="session")
def pyz() -> str:
    """The path of the built zipapp: the one that `build.py test` has built, else built now."""
    return os.environ.get("ANT_TEST_PYZ") or build.build()


@pytest.fixture(scope="session")
def interpreters() -> Dict[str, str]:
    """The supported interpreters of this machine that matter: the oldest, 3.11, the default and the newest."""
    return find_interpreters(OLDEST, "3.11", NEWEST)


@pytest.fixture(scope="session")
def python(request: pytest.FixtureRequest) -> str:
    """An interpreter that the agent is to run on."""
    return str(request.param)


def find_interpreters(*versions: str) -> Dict[str, str]:
    """Paths of interpreters by "major.minor"; the default one is always among them.

    That is the one below .venv: with .venv's own, `-I` would still find the packages installed for the tests.
    """
    found = {"{}.{}".format(*sys.version_info[:2]): os.path.realpath(sys.executable)}
    for version in versions:
        path = None if version in found else find_interpreter(version)
        if path:
            found[version] = path
    return dict(sorted(found.items(), key=lambda item: tuple(map(int, item[0].split(".")))))


def find_interpreter(version: str) -> Optional[str]:
    """An interpreter of this "major.minor" that really starts, or None."""
    candidates: List[Optional[str]] = []
    for place in _PLACES:
        candidates += sorted(glob.glob(os.path.expanduser(place.format(version))))
    for candidate in [*candidates, shutil.which(f"python{version}")]:
        # a version manager's stand-in may be on PATH without the interpreter behind it
        if candidate and _probe(candidate)[:1] == [version]:
            return _probe(candidate)[1]
    return None


def _probe(path: str) -> List[str]:
    try:
        return subprocess.run([path, "-c", _PROBE], capture_output=True, text=True, check=False).stdout.split()
    except OSError:
        return []


def _folder(path: os.PathLike[str]) -> str:
    return os.path.relpath(path, _TESTS).split(os.sep)[0]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of e2e run with the oldest, the default and the newest Python; others with the default."""
    if "python" not in metafunc.fixturenames:
        return
    marked = metafunc.definition.get_closest_marker("e2e")
    versions = (OLDEST, NEWEST) if marked or _folder(metafunc.definition.path) == "e2e" else ()
    found = find_interpreters(*versions)
    if metafunc.definition.get_closest_marker("newest"):
        found = dict([max(found.items(), key=lambda item: tuple(map(int, item[0].split("."))))])
    # indirect: of a direct parameter pytest does not see that two tests share it, and each would get a host of its own
    names = [f"py{name}" for name in found]
    metafunc.parametrize("python", list(found.values()), ids=names, scope="session", indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: List[pytest.Item]) -> None:
    """Mark by folder; leave the slow ones out of CI, unless they were asked for."""
    for item in items:
        if _folder(item.path) in MARKED_FOLDERS:
            item.add_marker(_folder(item.path))
        if item.get_closest_marker("needs_root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))
    if SLOW_TOO:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped:
        refuse_skip(report)
    return report


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In CI a skip whose reason is not allowed is a failure: a test that never runs can't fail."""
    reason = skip_reason(report.longrepr)
    if IN_CI and not any(re.fullmatch(allowed, reason) for allowed in ALLOWED_SKIPS):
        report.outcome = "failed"
        report.longrepr = f"Skipped in CI, and its reason is not in ALLOWED_SKIPS of tests/conftest.py: {reason}"


def skip_reason(longrepr: object) -> str:
    """The reason in what pytest keeps of a skip: (path, line, "Skipped: reason")."""
    if isinstance(longrepr, tuple):
        location: Tuple[str, int, str] = longrepr
        return location[2].replace("Skipped: ", "", 1)
    return str(longrepr)
