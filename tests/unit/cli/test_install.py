"""`install` into a folder that stands in for another system's root, and what it refuses; tests/host runs it for real."""

from __future__ import annotations

import os
import stat
import sys
import zipfile
from pathlib import Path

import pytest

from agent import __main__ as entry
from agent.cli.install import ENABLED, PLACE, UNIT


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system with systemd, and a zipapp to install into it."""
    with zipfile.ZipFile(tmp_path / "agent.pyz", "w") as bundle:
        bundle.writestr("__main__.py", "print('it')\n")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "agent.pyz")])
    systemd = tmp_path / "image/usr/lib/systemd/systemd"
    systemd.parent.mkdir(parents=True)
    systemd.touch()
    return tmp_path / "image"


def test_install_into_an_image(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["install", "--root", str(image), "--listen", "127.0.0.1:4500", "--allow-host", "a.example"]) == 0
    shown = capsys.readouterr().out
    assert UNIT in shown and "not been started" in shown
    placed, unit = Path(f"{image}{PLACE}"), Path(f"{image}{UNIT}")
    assert placed.read_bytes() == (image.parent / "agent.pyz").read_bytes()
    assert stat.S_IMODE(placed.stat().st_mode) == 0o755 and stat.S_IMODE(unit.stat().st_mode) == 0o644
    assert os.readlink(f"{image}{ENABLED}") == UNIT
    text = unit.read_text()
    words = f"{PLACE} boot --store /var/lib/ant-host-agent --listen 127.0.0.1:4500 --allow-host a.example"
    assert f"ExecStart={sys.executable} -I -S {words}\n" in text


def test_install_twice_is_install(image: Path) -> None:
    for listen in ("127.0.0.1:4500", "127.0.0.1:4501"):
        assert entry.main(["install", "--root", str(image), "--listen", listen]) == 0
    text = Path(f"{image}{UNIT}").read_text()
    assert "4501" in text and "4500" not in text


def test_without_systemd_the_lines_are_printed(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (image / "usr/lib/systemd/systemd").unlink()
    assert entry.main(["install", "--root", str(image)]) == 0
    shown = capsys.readouterr().out
    assert "does not run systemd" in shown and "@reboot" in shown
    assert os.path.exists(f"{image}{PLACE}") and not os.path.exists(f"{image}{UNIT}")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--listen", "0.0.0.0:4499"], "other machines"),
        (["--listen", "nonsense"], "HOST:PORT"),
        (["--user", "deploy"], "--root"),
    ],
)
def test_what_could_not_serve_is_not_installed(
    words: list[str], complaint: str, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.main(["install", "--root", str(image), *words]) == 2
    assert complaint in capsys.readouterr().err
    assert not os.path.exists(f"{image}{PLACE}")


@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_only_root_can(verb: str, image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert entry.main([verb, "--store", str(image)]) == 2
    shown = capsys.readouterr().err
    assert "only root" in shown and "sudo" in shown


def test_the_file_has_to_be_a_zipapp(image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [__file__])
    assert entry.main(["install", "--root", str(image)]) == 2
    assert "not the zipapp" in capsys.readouterr().err
