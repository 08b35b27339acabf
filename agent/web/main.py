"""The agent's process: on the socket that its shim holds, with the conversation that its shim gave it."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Callable, Optional

from agent.config import ServeConfig
from agent.errors import EXIT_OK
from agent.model import AGENT_PROJECT
from agent.operations import bootstrap, reconcile, selftest, shim_proof
from agent.operations.agent import Agent
from agent.operations.fall_back import fall_back
from agent.shim import machine
from agent.shim.handle import Control
from agent.store.keys import KeyRing
from agent.store.unpacker import Unpacker
from agent.web.entry import HELD_BACK, Begun
from agent.web.server import Server, ServerSettings

if TYPE_CHECKING:
    from agent.host.certificates import Certificate

#: Those that an agent starts one after the other from its own release.
_SHIMS_IN_VAIN = 3


def main(begun: Begun, unpacker: Unpacker) -> int:
    """`agent STORE`, whose first moments are entry.py. Returns when it has drained."""
    store, front = begun.store, begun.front
    config = begun.config
    control = Control(begun.control)
    agent = Agent(store, control, time.time(), unpacker)
    settings = ServerSettings(auth_required=not config.no_auth, names=config.names, certificate=_certificate(config))
    server = Server(agent, front, KeyRing(config.token_file, store.keys), settings)
    stopped = threading.Event()

    def stop(*_: object) -> None:
        stopped.set()
        server.drain()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, lambda *_: server.reload_certificates())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)
    proof = os.environ.get("PROVE")
    if proof == shim_proof.ALONE:
        signal.alarm(shim_proof.AGENT_SECONDS)
    elif proof is not None:
        shim_proof.prove_shim(store)
        control.alive()
    if proof is not None:
        selftest.prove(agent)
    threading.Thread(target=reconcile.keep_reconciling, args=(agent, stopped), daemon=True).start()
    if proof != shim_proof.ALONE:  # there, whoever asked for it kills it and starts the next
        threading.Thread(target=_watch_shim, args=(agent, front.listener, stop), daemon=True).start()
    control.ready()
    server.run(control.alive)
    stopped.set()
    return EXIT_OK


def _certificate(config: ServeConfig) -> Optional[Certificate]:
    """What to speak TLS with, proved in a handshake with ourselves; UsageError or ssl.SSLError when it is no good."""
    if not (config.tls_cert and config.tls_key):
        return None
    from agent.host import certificates  # OpenSSL is loaded by those who need it

    certificate = certificates.Certificate(config.tls_cert, config.tls_key, config.tls_client_ca)
    certificates.prove(certificate.context())
    return certificate


def _watch_shim(agent: Agent, listener: socket.socket, stop: Callable[[], None]) -> None:
    """The agent looks after its shim as its shim looks after it.

    Only the one on record does: a successor whose shim died in the middle of its proof gives way. Where shim after shim ends
    before it is on record as the one in charge, this release has none that works, and gives way to the one before it.
    """
    bundle, last, in_vain = bootstrap.own_bundle(), None, 0
    while True:
        agent.control.wait_for_end()
        record = agent.handle(AGENT_PROJECT).record()
        if record is not None and record.state == machine.STOPPING:
            return  # it was told to end, and we by it
        if record is not None and record.pid != os.getpid():
            stop()
            return
        sys.stderr.write("the agent's shim died; starting another one\n")
        in_vain = in_vain + 1 if record is not None and record.shim == last else 0
        last = record.shim if record is not None else None
        if in_vain == _SHIMS_IN_VAIN:
            bundle = fall_back(agent) or bundle
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            started = bootstrap.replace_shim(agent.store, bundle, listener.fileno(), theirs.fileno())
        if started:
            agent.control.replace(ours)
        if in_vain or not started:
            time.sleep(0.1)
