"""What is followed: over restarts and upgrades of the agent, with nothing lost or there twice."""

from __future__ import annotations

import sys
import time
from typing import BinaryIO, Callable, Iterator, Mapping, Optional, Tuple, TypeVar, Union

from agent.client import Client
from agent.download import Download
from agent.errors import Busy, Unreachable

Query = Mapping[str, Union[str, int]]
Piece = TypeVar("Piece")

#: An agent that does not come back within this time is not being restarted.
_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.2
#: Where to begin is a matter of the first call; the next ones go on.
_BEGINS = ("tail", "since", "run")


def going_on(
    call: Callable[[Optional[str]], Download], read: Callable[[Download], Iterator[Tuple[str, Piece]]]
) -> Iterator[Piece]:  # fmt: skip
    """What comes, without an end (KeyboardInterrupt). AgentError for what no waiting mends, as that the project is gone.

    `read` says behind which place each piece is; from the last one on `call` asks again for what was lost with a connection.
    """
    place: Optional[str] = None
    lost_clock = 0.0
    while True:
        try:
            with call(place) as download:
                for behind, piece in read(download):
                    yield piece
                    place, lost_clock = behind, 0.0
        except (Busy, Unreachable):
            if place is None or lost_clock and time.monotonic() - lost_clock > _PATIENCE_SECONDS:
                raise
        if not lost_clock:
            lost_clock = time.monotonic()
            sys.stderr.write("ant-host-agent: the agent ended the answer, as for a restart; going on as soon as it answers.\n")
        time.sleep(_PAUSE_SECONDS)


def follow(agent: Client, project: str, query: Query, file: BinaryIO) -> None:
    """Print, until somebody ends it, a project's output as it comes, each piece of it behind a mark (store/text.py)."""
    further = {name: value for name, value in query.items() if name not in _BEGINS}

    def call(place: Optional[str]) -> Download:
        return agent.text(project, **(query if place is None else {**further, "from": place}), marks="true")

    for piece in going_on(call, pieces):
        file.write(piece)
        file.flush()


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
