"""`python3 build.py bench --peers`: one table, a column each, of the same machine in the same hour."""

from __future__ import annotations

import sys
import time
import traceback
from typing import Any, Callable, Dict, List, Tuple

from tests.bench.peers.circus import Circus
from tests.bench.peers.ours import Ours
from tests.bench.peers.peer import Peer
from tests.bench.peers.pm2 import Pm2
from tests.bench.peers.rows import Column, measure
from tests.bench.peers.supervisord import Supervisord
from tests.bench.peers.trees import S6, Runit
from tests.bench.setting import Setting

PEERS = (Supervisord, Circus, Pm2, Runit, S6)
NAMES = (Ours.name, *(peer.name for peer in PEERS))


def compare(setting: Setting, names: Tuple[str, ...] = ()) -> Tuple[str, Dict[str, Any], List[str]]:
    """The table; every sample by peer and row; what failed. A peer that can't be had here is named below the table."""
    makers: List[Callable[[], Peer]] = [lambda: Ours(setting), *PEERS]
    columns: List[Column] = []
    absent: List[str] = []
    for make in makers:
        peer = make()
        if names and peer.name not in names:
            peer.close()
            continue
        started = time.monotonic()
        try:
            columns.append(measure(peer, setting))
        except Exception as error:
            traceback.print_exc()
            peer.close()
            absent.append(f"- {peer.name} could not be had here: {str(error)[:200]}")
        sys.stderr.write(f"{peer.name}: {time.monotonic() - started:.0f} s\n")
    rows = list(dict.fromkeys(row for column in columns for row in column.cells))
    lines = ["| " + " | ".join(["", *(column.what for column in columns)]) + " |", "|" + "---|" * (len(columns) + 1)]
    lines += ["| " + " | ".join([row, *(column.cells.get(row, "–") for column in columns)]) + " |" for row in rows]
    samples = {column.what: {"cells": column.cells, "samples": column.samples} for column in columns}
    failed = [*absent, *(cell for column in columns for cell in column.cells.values() if cell.startswith("failed"))]
    return "\n".join([*lines, *(["", *absent] if absent else [])]), samples, failed
