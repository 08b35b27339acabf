"""The unit that `install` writes, read by systemd itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Optional

import pytest

from agent.cli.units import systemd_unit


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("user", [None, "daemon"])
def test_systemd_finds_no_fault(tmp_path: Path, user: Optional[str]) -> None:
    path = tmp_path / "ant-host-agent.service"
    path.write_text(systemd_unit(["/bin/sh", "/srv/with blank", "100%", "$x"], user))
    folders = f"{tmp_path}:/usr/lib/systemd/system:/lib/systemd/system"
    environ = {"PATH": f"{os.defpath}:/usr/sbin:/sbin", "SYSTEMD_UNIT_PATH": folders}
    command = ["systemd-analyze", "verify", "--man=no", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    # systemd before 254 does not know DelegateSubgroup= and says that it does without
    faults = [line for line in done.stderr.splitlines() if path.name in line and "DelegateSubgroup" not in line]
    assert faults == [], done.stderr
