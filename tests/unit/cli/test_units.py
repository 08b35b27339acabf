"""The unit that `install` writes, and the lines for hosts without systemd."""

from __future__ import annotations

import configparser

import pytest

from agent.cli.units import elsewhere, systemd_unit

COMMAND = ["/usr/bin/python3", "-I", "-S", "/usr/local/lib/ant-host-agent/ant-host-agent.pyz", "boot", "--store", "/srv/a"]


def read(text: str) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign,assignment]
    unit.read_string(text)
    return unit


def test_what_keeps_projects_at_work_is_in_the_unit() -> None:
    unit = read(systemd_unit(COMMAND, None))
    service = dict(unit["Service"])
    wanted = {"Type": "notify", "Restart": "always", "KillMode": "process", "Delegate": "yes", "OOMScoreAdjust": "-900"}
    assert wanted.items() <= service.items()
    assert float(service["WatchdogSec"]) > 10
    assert service["ExecStart"] == " ".join(COMMAND)
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert unit["Install"]["WantedBy"] == "multi-user.target"
    assert "User" not in service


def test_a_user_is_in_the_unit() -> None:
    assert read(systemd_unit(COMMAND, "deploy"))["Service"]["User"] == "deploy"


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("/a b", '"/a b"'),
        ("100%", "100%%"),
        ("$HOME", "$$HOME"),
        ('say "x"', '"say \\"x\\""'),
        ("it's", '"it\'s"'),
        ("a\\b", '"a\\\\b"'),
        ("", '""'),
    ],
)
def test_words_are_written_so_that_systemd_reads_them_back(word: str, written: str) -> None:
    line = read(systemd_unit(["/bin/x", word], None))["Service"]["ExecStart"]
    assert line == f"/bin/x {written}"


def test_elsewhere_every_program_is_told_the_same_command() -> None:
    text = elsewhere(COMMAND, None)
    assert text.count(" ".join(COMMAND)) == 3
    assert "@reboot" in text and "supervise-daemon" in text and "exec " in text
    assert "-u deploy" in elsewhere(COMMAND, "deploy") and "command_user=deploy" in elsewhere(COMMAND, "deploy")
