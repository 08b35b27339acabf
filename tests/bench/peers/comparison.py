"""`python3 build.py bench --peers`: one table, a column each, of the same machine in the same hour."""

from __future__ import annotations

import sys
import time
import traceback
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from tests.bench.peers.cells import Column, markdown
from tests.bench.peers.circus import Circus
from tests.bench.peers.ours import Ours
from tests.bench.peers.peer import Peer
from tests.bench.peers.pm2 import Pm2
from tests.bench.peers.rows import ROWS, measure
from tests.bench.peers.supervisord import Supervisord
from tests.bench.peers.trees import S6, Runit
from tests.bench.setting import Setting

PEERS = (Supervisord, Circus, Pm2, Runit, S6)
NAMES = (Ours.name, *(peer.name for peer in PEERS))


class Comparison(NamedTuple):
    """The table with what could not be had or measured below it; every sample by peer and row; how much failed."""

    table: str
    samples: Dict[str, Any]
    failed: int


def compare(setting: Setting, names: Tuple[str, ...] = ()) -> Comparison:
    """Ask ourselves and then the peers (of these names, if there are any) one after the other."""
    makers: List[Callable[[], Peer]] = [lambda: Ours(setting), *PEERS]
    ours: Optional[Column] = None
    others: List[Column] = []
    notes: List[str] = []
    for name, make in zip(NAMES, makers):
        if names and name not in names:
            continue
        peer = make()
        started = time.monotonic()
        try:
            column = measure(peer, setting)
        except Exception as error:
            traceback.print_exc()
            peer.close()
            notes.append(f"- {name} could not be had here: {str(error)[:200]}")
            continue
        finally:
            sys.stderr.write(f"{name}: {time.monotonic() - started:.0f} s\n")
        notes += [f"- {column.what}: {failure}" for failure in column.failed]
        if name == Ours.name:
            ours = column
        else:
            others.append(column)
    columns = [*([ours] if ours is not None else []), *others]
    samples = {column.what: {"cells": column.cells, "samples": column.samples, "failed": column.failed} for column in columns}
    return Comparison("\n".join([markdown(ROWS, ours, others), *(["", *notes] if notes else [])]), samples, len(notes))
