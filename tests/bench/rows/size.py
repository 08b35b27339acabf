"""The zipapp's size."""

from __future__ import annotations

import glob
import os
from typing import List

from tests.bench.figure import Figure
from tests.bench.setting import Setting
from tests.support.agent import AGENT


def measure(setting: Setting) -> List[Figure]:
    """As it is built and sent, and with the bytecode that a host adds to its own copy."""
    with setting.host() as host:
        own = [os.path.getsize(path) / 1024 for path in glob.glob(host.path("projects", AGENT, "releases", "*", "*.pyz"))]
    return [
        Figure("the zipapp", "KiB", [os.path.getsize(setting.pyz) / 1024], goal="≤ 450 KB"),
        Figure("the host's own copy, with bytecode", "KiB", own, goal="≤ 450 KB"),
    ]
