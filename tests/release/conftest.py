"""What the tests of the artifact itself share."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest

#: Nothing but this: what a zipapp or a build needs of its surroundings must not hide in them.
BARE = {"PATH": os.defpath}


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command to its end in an empty folder with a bare environment and no input."""

    def run(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        cwd = tmp_path / "elsewhere"
        cwd.mkdir(exist_ok=True)
        settings = {"cwd": str(cwd), "env": BARE, "timeout": 120, "text": True, **options}
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, **settings)

    return run
