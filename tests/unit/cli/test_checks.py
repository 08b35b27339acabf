"""What doctor says of a host, where a test can make it so."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Dict, List

import pytest

from agent.cli import checks, doctor
from agent.cli.checks import BAD, LIMIT, OK, Finding
from agent.host import files, prctl
from agent.host.files import Space
from agent.store.layout import StoreLayout


@pytest.fixture
def store(tmp_path: Path) -> StoreLayout:
    (tmp_path / "token").write_text("secret")
    for path, mode in ((tmp_path, 0o700), (tmp_path / "token", 0o600)):
        path.chmod(mode)
    return StoreLayout(str(tmp_path))


def test_every_check_of_the_host_says_something_and_never_without_a_way_out() -> None:
    for check in checks.OF_THE_HOST:
        finding = check()
        assert finding.text.endswith("."), finding
        assert finding.level in (OK, LIMIT, BAD) and (finding.level == OK or finding.hint), finding
        assert finding.level != LIMIT or finding.promise, finding


def test_a_store_as_it_should_be(store: StoreLayout) -> None:
    assert [check(store).level for check in (checks.folder, checks.secrets, checks.disk)] == [OK, OK, OK]
    assert sorted(os.listdir(store.root)) == ["token"]  # the trial write is gone


def test_a_store_that_others_see_into(store: StoreLayout) -> None:
    os.chmod(store.root, 0o755)
    os.chmod(store.token, 0o644)
    folder, keys = checks.folder(store), checks.secrets(store)
    assert (folder.level, keys.level) == (BAD, BAD)
    assert "mode 0755" in folder.text and folder.hint == f"chmod 0700 {store.root}"
    assert store.token in keys.text and keys.hint == f"chmod 0600 {store.token}"
    os.unlink(store.token)
    files.write_json(store.config, {})
    assert (checks.secrets(store).level, store.token in checks.secrets(store).text) == (BAD, True)
    os.chmod(store.root, 0o711)  # what an agent with projects of other users makes it
    assert checks.folder(store).level == OK


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    store = StoreLayout(str(tmp_path / "none"))
    assert checks.folder(store).level == checks.disk(store).level == BAD
    assert "No such file" in checks.folder(store).text


def test_a_full_disk(store: StoreLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "free_space", lambda path: Space(5_000_000, 10**9, 10**6))
    assert checks.disk(store).text == "Only 0.0 GB and 1000000 inodes are free."


def test_a_clock_that_nobody_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: Dict[str, int] = {"state": 5}

    class Libc:
        def adjtimex(self, timex: object) -> int:
            return answers["state"]

    monkeypatch.setattr(prctl, "libc", Libc())
    assert checks.clock().level == LIMIT
    answers["state"] = 0
    assert checks.clock().level == OK
    monkeypatch.setattr(checks.time, "time", lambda: 86400.0)
    assert checks.clock().text == "The clock says 1970-01-02."


def test_a_python_that_is_cut_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lzma", None)
    finding = checks.python()
    assert (finding.level, finding.promise) == (LIMIT, ".tar.xz")
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    assert checks.python().level == BAD


def test_the_sum_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    found: List[Finding] = [Finding("port", OK, "Runs."), Finding("boot", LIMIT, "None.", "Install.", "coming back")]
    doctor._print(found, True)
    assert capsys.readouterr().out == (
        "ok     port  Runs.\nlimit  boot  None.\n             Install.\n\n"
        "Can't be promised here: coming back.\nEverything else holds on this host.\n"
    )
    doctor._print([*found, Finding("keys", BAD, "Loose.", "chmod")], False)
    assert capsys.readouterr().out.endswith("1 finding must be mended.\n")
