"""The agent's web server: the front thread, Waitress's loop and its workers around one listening socket."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer

from agent.errors import AgentError, Busy
from agent.operations.agent import Agent
from agent.store.keys import KeyRing
from agent.web import problems
from agent.web.admission import Gate
from agent.web.audit import Audit
from agent.web.channel import Channel
from agent.web.front import CONNECTIONS, HEAD_BYTES, Front
from agent.web.keys import Keys
from agent.web.lanes import make_lanes
from agent.web.origin import Origins
from agent.web.route import RouteTable
from agent.web.routes import ROUTES, make_app
from agent.web.services import OPERATIONS, Operations, Services
from agent.web.spool import Uploads
from agent.web.streams import Streams
from agent.web.workers import Workers

if TYPE_CHECKING:
    from agent.host.certificates import Certificate
    from agent.web.tls import Terminator

DRAIN_SECONDS = 30.0


@dataclass(frozen=True)
class ServerSettings:
    """What may differ between agents. `head_seconds` is the time for a request's head, `idle_seconds` how long a
    drained server waits for an idle connection to speak once more, `names` the host names that the agent answers to,
    `certificate` that of an agent that speaks TLS only."""

    max_artifact_bytes: int = 4 << 30
    auth_required: bool = True
    names: Tuple[str, ...] = ()
    upload_slots: int = 16
    threads: int = 24
    launches: int = 100
    readers: int = 100
    followers: int = 100
    head_seconds: float = 10.0
    idle_seconds: float = 5.0
    certificate: Optional[Certificate] = None


class Server:
    """Serves until `drain` what comes through `front`, whose listening socket is never closed here."""

    def __init__(
        self,
        agent: Agent,
        front: Front,
        ring: KeyRing,
        settings: ServerSettings,
        operations: Operations = OPERATIONS,
    ) -> None:
        self._settings = settings
        self.uploads = Uploads(agent.store, settings.max_artifact_bytes, settings.upload_slots)
        self._dispatcher = Workers()
        lanes = make_lanes(settings.threads, settings.launches, self._dispatcher.resize)
        audit = Audit(agent.store.audit)
        gate = Gate(Keys(ring, settings.auth_required), Origins(settings.names), RouteTable(ROUTES), self.uploads, lanes, audit)
        self._streams = Streams("bulk", settings.readers), Streams("live", settings.followers)
        app = make_app(Services(agent, operations, self.uploads, lanes, audit, *self._streams))
        self._loop = _Loop(app, front.listener, self._dispatcher, settings, gate)
        self._front = front
        self._terminator = _make_terminator(settings, front)
        front.tell = self._loop.pull_trigger
        self._is_draining = False
        self._drain_until: Optional[float] = None

    def run(self, alive: Callable[[], None] = lambda: None) -> None:
        """Serve; returns once drained: when nothing is in flight, or DRAIN_SECONDS after `drain`.

        `alive` is called about once a second for as long as both the loop and the front thread turn.
        """
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._dispatcher.set_thread_count(self._settings.threads)
        for thread in (self._front, *self._streams):
            if thread.ident is None:  # the front thread may be at work already
                thread.start()
        try:
            next_sign = 0.0
            while not self._is_done():
                if time.monotonic() >= next_sign and self._front.is_turning:
                    alive()
                    next_sign = time.monotonic() + 1.0
                self._take_accepted()
                wasyncore.loop(timeout=0.05 if self._is_draining else 1.0, use_poll=True, map=self._loop.channels, count=1)
        finally:
            for thread in (self._front, *self._streams):
                thread.stop()
                thread.join()
            self._take_accepted()
            self._dispatcher.shutdown(cancel_pending=True, timeout=1)
            self._loop.close()

    def drain(self) -> None:
        """Accept no more, finish what is in flight, then let `run` return. Returns at once; fit for signal handlers."""
        self._is_draining = self._loop.draining = True
        for thread in (self._front, *self._streams):
            thread.drain()
        self._loop.pull_trigger()

    def reload_certificates(self) -> None:
        """Use what is in their files now. Files that can't be used change nothing, and are told of on stderr."""
        if self._terminator is None:
            return
        try:
            self._terminator.reload()
            sys.stderr.write("the TLS certificates were read again\n")
        except AgentError as error:
            sys.stderr.write(f"the TLS certificates stay what they were: {error.detail}\n")

    @property
    def readers(self) -> int:
        """How many answers without a known end are being sent."""
        return sum(streams.count for streams in self._streams)

    @property
    def _encrypted(self) -> int:
        """How many TLS connections have yet to be told the end of an answer, or to end."""
        return self._terminator.count if self._terminator is not None else 0

    def _is_done(self) -> bool:
        if not self._is_draining:
            return False
        now = time.monotonic()
        if self._drain_until is None:
            self._drain_until = now + DRAIN_SECONDS
        self._loop.close_idle(self._settings.idle_seconds)
        in_flight = (
            self._front.is_alive() or self._front.handed_over or self._loop.active_channels or self.readers or self._encrypted
        )
        return not in_flight or now >= self._drain_until

    def _take_accepted(self) -> None:
        while self._front.handed_over:
            self._loop.take(*self._front.handed_over.popleft())


class _Loop(TcpWSGIServer):  # type: ignore[misc]
    """Waitress's server without its accept: connections come from the front thread."""

    channel_class = Channel
    draining = False
    next_channel_cleanup: float
    active_channels: Dict[int, Channel]

    def __init__(self, app: Any, listener: socket.socket, dispatcher: Any, settings: ServerSettings, gate: Gate) -> None:
        self.gate = gate
        self.channels: Dict[int, Any] = {}
        self._head_seconds = settings.head_seconds
        own = listener.dup()  # Waitress wants a socket to ask for its address, and closes it
        adjustments = Adjustments(
            sockets=[own],
            ident=problems.SERVER,
            threads=settings.threads,
            asyncore_use_poll=True,
            recv_bytes=1 << 18,
            connection_limit=CONNECTIONS,
            channel_timeout=60,
            cleanup_interval=5,
            outbuf_high_watermark=1 << 20,
            max_request_body_size=1 << 50,
            max_request_header_size=HEAD_BYTES,
            clear_untrusted_proxy_headers=True,
            log_socket_errors=False,
            channel_request_lookahead=0,
        )
        address = (own.family, own.type, own.proto, own.getsockname())
        super().__init__(
            app, self.channels, False, own, dispatcher=dispatcher, adj=adjustments, sockinfo=address, bind_socket=False
        )
        os.set_blocking(self.trigger.trigger, False)

    def readable(self) -> bool:
        """Never, since the front thread accepts. It is asked in each turn; Waitress's own goes by the wall clock."""
        now = time.monotonic()
        if now >= self.next_channel_cleanup:
            self.next_channel_cleanup = now + self.adj.cleanup_interval
            self.maintenance(now)
        return False

    def pull_trigger(self) -> None:
        """Wake the loop. Never blocks, takes no lock, and does nothing once the loop is closed."""
        if not self.trigger._closed:
            try:
                self.trigger.pull_trigger()
            except BlockingIOError:
                return  # full of wake-ups

    def take(self, accepted: socket.socket, address: Any, data: bytes) -> None:
        """A connection whose first request's head has come."""
        if len(self.active_channels) >= CONNECTIONS and not self._make_room():
            _answer_busy(accepted)
            return
        try:
            if accepted.family != socket.AF_UNIX:  # the inner end of a TLS connection knows no TCP
                self.set_socket_options(accepted)
            channel = self.channel_class(self, accepted, address, self.adj, map=self.channels)
        except OSError:  # gone meanwhile
            accepted.close()
            return
        try:
            channel.received(data)
        except OSError:
            channel.handle_close()

    def _make_room(self) -> bool:
        """Give up the oldest connection whose answer is out: those who are refused must not keep out those who are not."""
        oldest = next((channel for channel in self.active_channels.values() if channel.is_lingering), None)
        if oldest is not None:
            oldest.handle_close()
        return oldest is not None

    def maintenance(self, now: float) -> None:
        """Waitress's time-outs count from the last byte; the head of a request has a time of its own."""
        super().maintenance(now)
        for channel in list(self.active_channels.values()):
            request = channel.request
            is_late = time.monotonic() - channel.head_since > self._head_seconds
            if request is not None and not request.headers_finished and not channel.requests and is_late:
                channel.will_close = True

    def close_idle(self, idle_seconds: float) -> None:
        """Close what has been idle for so long; a request may be on its way on a connection that just spoke."""
        for channel in list(self.active_channels.values()):
            if channel.is_idle and time.monotonic() - channel.last_activity >= idle_seconds:
                channel.will_close = True

    def close(self) -> None:
        for channel in list(self.active_channels.values()):
            channel.handle_close()
        super().close()


def _make_terminator(settings: ServerSettings, front: Front) -> Optional[Terminator]:
    if settings.certificate is None:
        return None
    from agent.web.tls import Terminator  # OpenSSL is loaded by those who need it

    front.terminator = Terminator(settings.certificate, front.adopt)
    return front.terminator


def _answer_busy(accepted: socket.socket) -> None:
    with accepted, contextlib.suppress(OSError):
        accepted.send(problems.response(Busy(f"{CONNECTIONS} connections are open.", "Call again in a few seconds.")))
