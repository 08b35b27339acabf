"""Answers without a known end, sent by threads of their own: text, what is compressed, and what is still to come.

Once its head is ready, a connection is taken over from Waitress: no worker and no loop waits for its reader. A
reader that takes nothing costs one piece of memory; a new piece is made when the last one is out. One thread
serves many readers in turns, one for what is there already and one for what is still to come, so that
a large download never holds up a follower.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Callable, Deque, Dict, List, Optional, Protocol

from agent.errors import Busy
from agent.web import problems

#: Where in a call's environment lies what is to be sent: (Streams, Sending).
STREAM = "ant.stream"
#: How often what is still to come is looked for: st_size is right on every kernel, inotify is not told of splice(2) on some.
LOOK_SECONDS = 0.04
#: A reader that takes nothing for so long is given up.
STALLED_SECONDS = 60.0
#: So long one that follows may take, in a drain, for what was sent to it already: an upgrade does not wait for it.
PARTING_SECONDS = 2.0


class Stream(Protocol):
    """What is sent. `step` gives the next piece, b"" when there is none yet (`waits`: not before the next look), None at the
    end; it raises LookupError or OSError when it can't go on, and then the connection is cut off, not ended."""

    is_live: bool
    waits: bool

    def step(self) -> Optional[bytes]: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Sending:
    """A handler's answer: what is to be sent, as what, and the name that a browser saves it under."""

    stream: Stream
    content_type: str
    filename: str = ""


class _Reader:
    """One connection. `pending` is the piece being sent, since `moved_clock` without progress."""

    def __init__(self, connection: socket.socket, stream: Stream, head: bytes, chunked: bool) -> None:
        self.socket = connection
        self.stream = stream
        self.pending = memoryview(head)
        self._moved_clock = time.monotonic()
        self._patience_seconds = STALLED_SECONDS
        self._has_ended = False
        self._chunked = chunked

    def turn(self) -> bool:
        """Send what is pending, else the next piece; False once it is over or stalled. OSError when the reader is gone."""
        if not self.pending:
            self._take()
        if self.pending:
            self._send()
        return time.monotonic() - self._moved_clock < self._patience_seconds if self.pending else not self._has_ended

    def part_soon(self) -> None:
        """Let it have what is on its way, and then the end."""
        self.stream = _Ended(self.stream)
        self._patience_seconds = PARTING_SECONDS
        self._moved_clock = time.monotonic()

    def _take(self) -> None:
        self._moved_clock = time.monotonic()
        data = self.stream.step()
        if data is None:
            self._has_ended = True
            data = b"0\r\n\r\n" if self._chunked else b""
        elif data and self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self.pending = memoryview(data)

    def _send(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self.pending = self.pending[self.socket.send(self.pending) :]
            self._moved_clock = time.monotonic()

    def close(self) -> None:
        self.stream.close()
        self.socket.close()


class Streams(threading.Thread):
    """Serves at most `limit` readers."""

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(name=name, daemon=True)
        self._limit = limit
        self._new: Deque[_Reader] = deque()
        self._readers: Dict[int, _Reader] = {}
        self._is_draining = self._is_stopped = False
        self._lock = threading.Lock()
        self._promised = 0
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)

    @property
    def count(self) -> int:
        """How many places are taken."""
        return self._promised

    def admit(self) -> None:
        """Take one of the places, given back when the reader is done or by `dismiss`; Busy when there is none."""
        with self._lock:
            if self._promised >= self._limit or self._is_draining:
                raise Busy(f"{self._limit} readers are being served ({self.name}), which is the limit.", "Call again later.", 5)
            self._promised += 1

    def dismiss(self) -> None:
        """Give back a place."""
        with self._lock:
            self._promised -= 1

    def take(self, connection: socket.socket, stream: Stream, head: bytes, chunked: bool) -> None:
        """Serve a reader that was admitted; its connection, not blocking, and the stream belong to this thread now."""
        self._new.append(_Reader(connection, stream, head, chunked))
        self._wake()

    def drain(self) -> None:
        """End what has no end by itself (its reader calls again, and gets our successor) and admit nobody; the rest goes on."""
        self._is_draining = True
        self._wake()

    def stop(self) -> None:
        """End now."""
        self._is_stopped = True
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_writer.send(b"x")

    def run(self) -> None:
        try:
            while not self._is_stopped:
                while self._new:
                    reader = self._new.popleft()
                    self._readers[reader.socket.fileno()] = reader
                self._serve()
        finally:
            for reader in [*self._readers.values(), *self._new]:
                self._part(reader)
            self._wake_reader.close()
            self._wake_writer.close()

    def _serve(self) -> None:
        """One turn for each reader, then wait for what there is to wait for."""
        poll = select.poll()
        poll.register(self._wake_reader, select.POLLIN)
        waits: List[float] = []
        for fd, reader in list(self._readers.items()):
            if self._is_draining and reader.stream.is_live:
                reader.part_soon()
            if not self._guarded(reader.turn):
                del self._readers[fd]
                self._part(reader)
            elif reader.pending:
                poll.register(fd, select.POLLOUT)
                waits.append(1.0 if not self._is_draining else LOOK_SECONDS)
            else:
                poll.register(fd, select.POLLIN)
                waits.append(LOOK_SECONDS if reader.stream.waits else 0.0)
        for fd, event in poll.poll(min(waits) * 1000 if waits else None):
            if fd == self._wake_reader.fileno():
                self._wake_reader.recv(4096)
            elif event & (select.POLLIN | select.POLLHUP | select.POLLERR) and not self._is_there(self._readers[fd]):
                self._part(self._readers.pop(fd))

    def _is_there(self, reader: _Reader) -> bool:
        """Whether the other side is; what it still sends is dropped."""
        return self._guarded(lambda: bool(reader.socket.recv(4096)))

    def _guarded(self, act: Callable[[], bool]) -> bool:
        """One reader must not end the thread that serves the others."""
        try:
            return act()
        except BlockingIOError:
            return True
        except (OSError, LookupError):
            return False
        except Exception as error:
            problems.incident(error)
            return False

    def _part(self, reader: _Reader) -> None:
        reader.close()
        self.dismiss()


class _Ended:
    """A stream that is to go no further."""

    is_live, waits = False, False

    def __init__(self, stream: Stream) -> None:
        self.close = stream.close

    def step(self) -> Optional[bytes]:
        return None
