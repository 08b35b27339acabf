"""What calls work with: the operations, the uploads and the lanes, passed in so that tests can pass others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple, Union

from agent.operations import events, have, health, history, kill, launch, logs, metrics, restart, rollback, secrets, status
from agent.operations.agent import Agent
from agent.operations.launch import LaunchCall
from agent.store.logtar import LogTar
from agent.store.text import Marked, Text, TextQuery
from agent.web.audit import Audit
from agent.web.lanes import Lane
from agent.web.spool import Uploads
from agent.web.streams import Stream, Streams

_Reply = Dict[str, Any]


@dataclass(frozen=True)
class Operations:
    """The operations that handlers call."""

    launch: Callable[[Agent, LaunchCall], Tuple[int, _Reply]] = launch.launch
    kill: Callable[[Agent, str, Optional[float], bool, str], _Reply] = kill.kill
    describe: Callable[[Agent, str], _Reply] = status.describe
    describe_all: Callable[[Agent], _Reply] = status.describe_all
    restart: Callable[[Agent, str, str], Tuple[int, _Reply]] = restart.restart
    rollback: Callable[[Agent, str, Optional[str], str], Tuple[int, _Reply]] = rollback.rollback
    history: Callable[[Agent, str], _Reply] = history.history
    health: Callable[[Agent], Tuple[int, _Reply]] = health.health
    metrics: Callable[[Agent], str] = metrics.metrics
    events: Callable[[Agent, Optional[str], str, Callable[[Dict[str, Any]], bool]], Stream] = events.events
    tar: Callable[[Agent, str, str], LogTar] = logs.tar
    have: Callable[[Agent, str, Sequence[Tuple[int, str]]], _Reply] = have.have
    put_secret: Callable[[Agent, str, str, bytes], Tuple[int, _Reply]] = secrets.put
    delete_secret: Callable[[Agent, str, str], _Reply] = secrets.delete
    secret_names: Callable[[Agent, str], _Reply] = secrets.names
    text: Callable[[Agent, str, TextQuery], Union[Text, Marked]] = logs.text


OPERATIONS = Operations()


@dataclass(frozen=True)
class Services:
    """Everything that a call may use."""

    agent: Agent
    operations: Operations
    uploads: Uploads
    lanes: Mapping[str, Lane]
    audit: Audit
    bulk: Streams
    live: Streams

    def admit(self, stream: Stream) -> Streams:
        """The thread that serves such a stream, a place in it taken. Busy when there is none."""
        streams = self.live if stream.is_live else self.bulk
        streams.admit()
        return streams
