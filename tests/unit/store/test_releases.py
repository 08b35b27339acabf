"""Which release a launch finds again: that of the same bytes, and the newest of several."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from agent.host import files
from agent.model import Release
from agent.store import releases
from agent.store.layout import ProjectLayout


@pytest.fixture
def layout(tmp_path: Path) -> ProjectLayout:
    return ProjectLayout(str(tmp_path), "web")


def add(
    layout: ProjectLayout, version: str, digest: str, received_at: str, is_draft: bool = False, generation: int = 0
) -> None:  # fmt: skip
    files.make_directory(layout.release(version))
    release = Release("web", version, digest * 64, 1, ("x",), received_at=received_at, generation=generation)
    releases.draft(layout, release) if is_draft else releases.commit(layout, release)


def found(layout: ProjectLayout, digest: str, version: Optional[str] = None) -> Optional[str]:
    release = releases.find(layout, digest * 64, version)
    return release.version if release is not None else None


def test_the_newest_of_the_same_bytes_is_found(layout: ProjectLayout) -> None:
    add(layout, "9", "a", "2026-01-01")
    add(layout, "1", "a", "2026-01-03", is_draft=True)
    add(layout, "5", "a", "2026-01-02")
    add(layout, "7", "b", "2026-01-04")
    assert (found(layout, "a"), found(layout, "b"), found(layout, "c")) == ("1", "7", None)
    assert releases.versions(layout) == [release.version for release in releases.every(layout)] == ["9", "5", "1", "7"]


def test_the_clock_may_have_jumped_meanwhile(layout: ProjectLayout) -> None:
    """Those that have no generation were received by earlier agents, before all others."""
    add(layout, "4", "a", "2026-01-01", generation=9)
    add(layout, "3", "a", "2026-01-02", generation=8)
    add(layout, "2", "a", "2026-01-04")
    add(layout, "1", "a", "2026-01-03")
    assert releases.versions(layout) == [release.version for release in releases.every(layout)] == ["1", "2", "3", "4"]
    assert found(layout, "a") == "4"


def test_a_version_is_found_with_its_own_bytes_only(layout: ProjectLayout) -> None:
    add(layout, "1", "a", "2026-01-01")
    add(layout, "2", "b", "2026-01-02")
    assert (found(layout, "a", "1"), found(layout, "a", "2"), found(layout, "a", "3")) == ("1", None, None)


def test_a_document_without_its_tree_is_no_release(layout: ProjectLayout) -> None:
    add(layout, "1", "a", "2026-01-01")
    Path(layout.release("1")).rmdir()
    assert (found(layout, "a"), found(layout, "a", "1"), releases.versions(layout)) == (None, None, [])


def test_a_digest_that_another_document_only_mentions(layout: ProjectLayout) -> None:
    add(layout, "1", "a", "2026-01-01")
    release = Release("web", "2", "b" * 64, 1, ("x",), received_at="2026-01-02", manifest={"env": {"BASE": "a" * 64}})
    files.make_directory(layout.release("2"))
    releases.commit(layout, release)
    assert found(layout, "a") == "1"


def test_a_project_that_was_never_here(layout: ProjectLayout) -> None:
    assert (found(layout, "a"), found(layout, "a", "1"), releases.versions(layout)) == (None, None, [])
