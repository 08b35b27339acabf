"""`logs --follow`: over restarts and upgrades of the agent, without a line lost or there twice."""

from __future__ import annotations

import sys
import time
from typing import BinaryIO, Iterator, Mapping, NoReturn, Tuple, Union

from agent.client import Client
from agent.download import Download
from agent.errors import Busy, Unreachable

Query = Mapping[str, Union[str, int]]

#: An agent that does not come back within this time is not being restarted.
_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.2
#: Where to begin is a matter of the first call; the next ones go on.
_BEGINS = ("tail", "since", "run")


def follow(agent: Client, project: str, query: Query, file: BinaryIO) -> NoReturn:
    """Print what comes until somebody ends it (KeyboardInterrupt). AgentError for what no waiting mends: the project is gone.

    Each piece comes behind a mark (store/text.py): what was lost with a connection is asked for again from the last one on.
    """
    asked, lost_clock = {**query, "marks": "true"}, 0.0
    while True:
        try:
            with agent.text(project, **asked) as download:
                for place, data in pieces(download):
                    file.write(data)
                    file.flush()
                    asked = {**{name: value for name, value in asked.items() if name not in _BEGINS}, "from": place}
                    lost_clock = 0.0
        except (Busy, Unreachable):
            if "from" not in asked or lost_clock and time.monotonic() - lost_clock > _PATIENCE_SECONDS:
                raise
        if not lost_clock:
            lost_clock = time.monotonic()
            sys.stderr.write("ant-host-agent: the agent ended the answer, as for a restart; going on as soon as it answers.\n")
        time.sleep(_PAUSE_SECONDS)


def pieces(download: Download) -> Iterator[Tuple[str, bytes]]:
    """(mark, piece) of each piece that came whole."""
    rest = b""
    for data in iter(download.arriving, b""):
        rest += data
        while True:
            head, found, behind = rest.partition(b"\n")
            place, _, size = head.partition(b" ")
            if not found or len(behind) < int(size):
                break
            yield place.decode(), behind[: int(size)]
            rest = behind[int(size) :]
