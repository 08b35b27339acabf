"""What happens on the host, as server-sent events (WHATWG HTML, 9.2): the store's own file of events, followed.

An event's id is a place in that file (inode, offset), so a client that calls again with its last id misses nothing
and gets nothing twice, although nobody remembers the client.
"""

from __future__ import annotations

import json
import os
import re
import time
from typing import Any, Callable, Dict, Optional, Tuple

from agent.store.layout import StoreLayout
from agent.store.segments import older

_BLOCK_BYTES = 1 << 16
#: A reader that nothing happens to hears so often that we are there, and a proxy in between sees that it is used.
_SILENCE_SECONDS = 15.0
#: So often the file is looked at; who opened it before it was renamed has written within the second time.
_LOOK_SECONDS, _LINGER_SECONDS = 0.1, 1.0
#: What an id looks like.
ID = r"([0-9a-f]{1,16})\.([0-9a-f]{1,16})"


class Events:
    """A stream of the events that `wanted` lets through, from those after the id `last` on, else from now on."""

    is_live = True
    waits = True

    def __init__(self, layout: StoreLayout, last: str, wanted: Callable[[Dict[str, Any]], bool]) -> None:
        self._path = layout.events
        self._wanted = wanted
        self._file = _Place(self._path)
        found = re.fullmatch(ID, last)
        if found is not None:
            self._file.go_to(*(int(number, 16) for number in found.groups()))
        else:
            self._file.go_to_end()
        # the id of where it begins is told at once: who loses the connection before the first event comes back to here
        self._greeting = f"retry: 1000\n: what happens from now on\nid: {self._file.identity}\n\n".encode()
        self._spoken = self._looked = time.monotonic()
        self._renamed_clock: Optional[float] = None

    def step(self) -> Optional[bytes]:
        """The next events, b"" while there are none; it never ends by itself. OSError if the file can't be read."""
        if self._greeting:
            greeting, self._greeting = self._greeting, b""
            return greeting
        now = time.monotonic()
        self.waits = True
        if now - self._looked < _LOOK_SECONDS:
            return b""
        found = self._file.lines()
        if found:
            self.waits = False  # there may be more
            sent = b"".join(self._event(*line) for line in found)
        else:
            self._looked = now
            self._go_on(now)
            sent = b": still here\n\n" if now - self._spoken >= _SILENCE_SECONDS else b""
        self._spoken = now if sent else self._spoken
        return sent

    def _go_on(self, now: float) -> None:
        """From a file that was renamed, since it was full, to its successor."""
        if self._file.is_current():
            return
        self._renamed_clock = self._renamed_clock or now
        if now - self._renamed_clock >= _LINGER_SECONDS:
            self._file.close()
            self._file, self._renamed_clock = _Place(self._path), None

    def _event(self, identity: str, line: bytes) -> bytes:
        try:
            event = json.loads(line)
        except ValueError:  # torn by a power cut
            return b""
        if not self._wanted(event):
            return b""
        return b"id: %b\nevent: %b\ndata: %b\n\n" % (identity.encode(), str(event.get("event")).encode(), line)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class _Place:
    """An open file of events, and how far it was read."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: Optional[int] = None
        self._at = 0

    @property
    def identity(self) -> str:
        """The id of where it is; where there is no file yet, that of no event, so that all that come later are behind it."""
        return f"{os.fstat(self._fd).st_ino:x}.{self._at:x}" if self._fd is not None else "0.0"

    def go_to_end(self) -> None:
        """Behind all that there is."""
        self._open(self._path)
        self._at = os.fstat(self._fd).st_size if self._fd is not None else 0

    def go_to(self, inode: int, offset: int) -> None:
        """To that place; where it is gone, and with it some events, to the oldest that there are."""
        names = (older(self._path), self._path)
        for name in names:
            self._open(name)
            if self._fd is not None and os.fstat(self._fd).st_ino == inode and self._is_line_end(offset):
                self._at = offset
                return
        for name in names:
            self._open(name)
            if self._fd is not None:
                return

    def _open(self, path: str) -> None:
        self.close()
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            self._fd = None

    def _is_line_end(self, offset: int) -> bool:
        assert self._fd is not None
        return offset == 0 or os.pread(self._fd, 1, offset - 1) == b"\n"

    def lines(self) -> Tuple[Tuple[str, bytes], ...]:
        """Whole lines that come next, each with the id of the place behind it."""
        if self._fd is None:
            self._open(self._path)
        if self._fd is None:
            return ()
        found = []
        data = os.pread(self._fd, _BLOCK_BYTES, self._at)
        whole = data[: data.rfind(b"\n") + 1]
        if not whole and len(data) == _BLOCK_BYTES:  # no line of ours is so long
            self._at += len(data)
        for line in whole.splitlines(keepends=True):
            self._at += len(line)
            found.append((self.identity, line.rstrip(b"\n")))
        return tuple(found)

    def is_current(self) -> bool:
        """Whether the file still has its name, or has none yet."""
        try:
            return self._fd is None or os.path.samestat(os.stat(self._path), os.fstat(self._fd))
        except FileNotFoundError:
            return True

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
