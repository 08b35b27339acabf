"""What a line of a .gitignore leaves out; tests/process/test_ignore_differential.py asks git itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.cli import ignore
from agent.cli.pack import pack


@pytest.mark.parametrize(
    ("line", "out", "kept"),
    [
        ("*.log", ["a.log", "x/a.log"], ["a.logs", "log"]),
        ("/a", ["a"], ["x/a"]),
        ("x/a", ["x/a"], ["y/x/a"]),
        ("**/a", ["a", "x/a", "x/y/a"], ["ba"]),
        ("a/**", ["a/b", "a/b/c"], ["a"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["ab", "a/xb"]),
        ("a*b", ["ab", "axb"], ["a/b"]),
        ("?", ["a"], ["ab", ""]),
        ("[a-c]x", ["ax", "y/bx"], ["dx"]),
        ("[!a]x", ["bx"], ["ax"]),
        ("[]]", ["]"], ["["]),
        ("[[:digit:]]", ["1"], ["a"]),
        (r"\!a", ["!a"], ["a"]),
        (r"\#a", ["#a"], ["a"]),
        ("a  ", ["a"], ["a  "]),
        ("a\\ ", ["a "], ["a"]),
        ("a\r", ["a"], []),
        ("a[b", [], ["a[b", "ab"]),
        ("a\\", [], ["a", "a\\"]),
        ("[z-a]", [], ["z", "a"]),
        ("#a", [], ["#a", "a"]),
        ("", [], ["a"]),
    ],
)
def test_a_line(line: str, out: list[str], kept: list[str]) -> None:
    rule = ignore.parse(line)
    rules = () if rule is None else (rule,)
    assert [name for name in out if not ignore.is_ignored(rules, name, False)] == []
    assert [name for name in kept if ignore.is_ignored(rules, name, False)] == []


def test_the_last_rule_that_fits_counts(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".gitignore").write_text("*.log\n!keep.log\ncache/\n")
    (tmp_path / "sub/.gitignore").write_text("/keep.log\n!a.log\n")
    rules = (*ignore.read(str(tmp_path), ""), *ignore.read(str(tmp_path), "sub"))
    assert ignore.is_ignored(rules, "a.log", False)
    assert not ignore.is_ignored(rules, "keep.log", False)
    assert ignore.is_ignored(rules, "sub/keep.log", False)
    assert not ignore.is_ignored(rules, "sub/a.log", False)
    assert ignore.is_ignored(rules, "x/cache", True) and not ignore.is_ignored(rules, "x/cache", False)


def test_pack_leaves_out_and_tells(tmp_path: Path) -> None:
    for name in ("run.sh", "a.log", "build/x", "build/y"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".gitignore").write_text("*.log\nbuild/\n!build/x\n")
    with open(tmp_path / "out", "wb") as file:
        assert pack(str(tmp_path), file) == ["a.log", "build"]
    with open(tmp_path / "out", "wb") as file:
        assert pack(str(tmp_path), file, takes_ignored=True) == []
