"""A web server in this process, on a real socket and a real store, with operations that only note their calls."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import pytest

from agent.host import files
from agent.operations.agent import Agent
from agent.operations.launch import LaunchCall
from agent.shim.handle import Control
from agent.store import keys
from agent.store.keys import KeyRing
from agent.store.layout import StoreLayout
from agent.store.logs import open_project_logs
from agent.store.logtar import LogTar
from agent.store.unpacker import Unpacker
from agent.web import openapi
from agent.web.front import Front
from agent.web.routes import ROUTES
from agent.web.server import Server, ServerSettings
from agent.web.services import Operations
from tests.support import http
from tests.support.api import Description
from tests.support.http import Body, Response

TOKEN = "the-key-of-this-test"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
DESCRIPTION = Description(openapi.describe(ROUTES))
RAW = {**BEARER, "Content-Type": "application/octet-stream"}


def head(method: str, path: str, **headers: str) -> bytes:
    """A request's head."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode()


def read_until_end(connection: socket.socket) -> bytes:
    """Everything until the server ends its side."""
    received = b""
    while True:
        data = connection.recv(65536)
        if not data:
            return received
        received += data


def problem(answer: Response, status: int) -> str:
    """The detail of a problem document with this status."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.body.endswith(b"\n")
    assert answer.json["status"] == status
    assert answer.json["title"]
    return f"{answer.json['detail']} {answer.json.get('hint', '')}"


class Noted:
    """Stands in for agent.operations: notes every call, answers plainly, waits where a test says so."""

    def __init__(self, store: StoreLayout) -> None:
        self.store = store
        self.calls: List[Tuple[str, Dict[str, Any]]] = []
        self.artifacts: List[bytes] = []
        self.launches = 0
        self.projects: List[str] = []
        self.may_go = threading.Event()
        self.may_go.set()
        self.fails: Optional[Exception] = None

    def operations(self) -> Operations:
        return Operations(
            launch=self.launch, kill=self.kill, describe=self.describe, describe_all=self.describe_all,
            put_secret=self.put_secret, delete_secret=self.delete_secret, secret_names=self.secret_names,
            restart=self.restart, rollback=self.rollback, history=self.history, have=self.have, health=self.health, tar=self.tar,
        )  # fmt: skip

    def note(self, name: str, **values: Any) -> Dict[str, Any]:
        self.calls.append((name, values))
        if self.fails is not None:
            raise self.fails
        return {"called": name}

    def launch(self, agent: Agent, call: LaunchCall) -> Tuple[int, Dict[str, Any]]:
        content = Path(call.upload.path).read_bytes()
        mode = os.stat(call.upload.path).st_mode & 0o777
        os.unlink(call.upload.path)
        assert hashlib.sha256(content).hexdigest() == call.upload.digest
        assert len(content) == call.upload.size_bytes
        assert mode == 0o600
        self.artifacts.append(content)
        self.launches += 1
        self.may_go.wait(60)
        values = {"project": call.project, "version": call.version, "sha256": call.sha256, "manifest": call.manifest}
        values.update({"left_out": call.left_out} if call.left_out is not None else {})
        return 201, self.note("launch", **values)

    def kill(self, agent: Agent, project: str, grace: Optional[float], purge: bool, by: str) -> Dict[str, Any]:
        return self.note("kill", project=project, grace_seconds=grace, purge=purge, by=by)

    def describe(self, agent: Agent, project: str) -> Dict[str, Any]:
        return self.note("describe", project=project)

    def describe_all(self, agent: Agent) -> Dict[str, Any]:
        return {
            **self.note("describe_all"),
            **({"projects": [{"project": name} for name in self.projects]} if self.projects else {}),
        }

    def restart(self, agent: Agent, project: str, by: str) -> Tuple[int, Dict[str, Any]]:
        return 200, self.note("restart", project=project)

    def rollback(self, agent: Agent, project: str, version: Optional[str], by: str) -> Tuple[int, Dict[str, Any]]:
        return 200, self.note("rollback", project=project, version=version)

    def have(self, agent: Agent, project: str, wanted: Sequence[Tuple[int, str]]) -> Dict[str, Any]:
        return self.note("have", project=project, wanted=list(wanted))

    def history(self, agent: Agent, project: str) -> Dict[str, Any]:
        return self.note("history", project=project)

    def health(self, agent: Agent) -> Tuple[int, Dict[str, Any]]:
        return 503, self.note("health")

    def put_secret(self, agent: Agent, project: str, name: str, value: bytes) -> Tuple[int, Dict[str, Any]]:
        return 201, self.note("put_secret", project=project, secret=name, value=value)

    def delete_secret(self, agent: Agent, project: str, name: str) -> Dict[str, Any]:
        return self.note("delete_secret", project=project, secret=name)

    def secret_names(self, agent: Agent, project: str) -> Dict[str, Any]:
        return self.note("secret_names", project=project)

    def tar(self, agent: Agent, project: str, etag: str) -> LogTar:
        self.note("logs", project=project)
        return open_project_logs(self.store.project(project), (), etag)


class Web:
    """The server under test and a client of it."""

    def __init__(self, store: StoreLayout, settings: ServerSettings) -> None:
        self.store = store
        self.noted = Noted(store)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.address: Tuple[str, int] = self.listener.getsockname()
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = Control(ours)
        self._ours = ours
        self.settings = settings
        self.server = self.make_server()
        self.thread = self.start(self.server)

    def make_server(self) -> Server:
        agent = Agent(self.store, self._control, 0.0, Unpacker(self._ours, 0))
        ring = KeyRing(self.store.token, self.store.keys)
        front = Front(self.listener, head_seconds=self.settings.head_seconds, idle_seconds=self.settings.idle_seconds)
        return Server(agent, front, ring, self.settings, self.noted.operations())

    def start(self, server: Server) -> threading.Thread:
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        self.noted.may_go.set()
        self.server.drain()
        self.thread.join(40)
        assert not self.thread.is_alive(), "the server did not drain"
        for end in (self.listener, self._ours, self._theirs):
            end.close()

    def request(self, method: str, path: str, body: Body = None, headers: Optional[Mapping[str, str]] = None) -> Response:
        """One call, by default with the admin's key. What is answered to it has to be in the API's description."""
        answer = http.request(self.address, method, path, body, BEARER if headers is None else headers)
        operation = DESCRIPTION.find(method, path)
        if operation is not None:
            DESCRIPTION.check(operation, answer, with_body=answer.headers["content-type"] == "application/problem+json")
        return answer

    def raw(self, sent: bytes, half_close: bool = False) -> Response:
        return http.raw(self.address, sent, half_close)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=30)

    def add_key(self, name: str, role: str, *projects: str, expires_at: Optional[str] = None) -> Dict[str, str]:
        """A further key, as the header that carries it; without projects it is good for all of them."""
        token = keys.add(self.store, name, role, projects or None, expires_at)[1]
        return {"Authorization": f"Bearer {token}"}

    def audited(self) -> List[Dict[str, Any]]:
        """The lines of the audit log."""
        return files.read_lines(self.store.audit)

    def staged(self) -> List[str]:
        return os.listdir(self.store.staging) if os.path.isdir(self.store.staging) else []


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Web]]:
    """Starts servers with the settings given; each is drained at the end, and nothing is left in its staging."""
    started: List[Web] = []

    def start(**settings: Any) -> Web:
        root = tmp_path / f"store{len(started)}"
        (root / "projects").mkdir(parents=True)
        (root / "token").write_text(TOKEN + "\n")
        web = Web(StoreLayout(str(root)), ServerSettings(**{"idle_seconds": 0.0, **settings}))
        started.append(web)
        return web

    yield start
    for web in started:
        web.stop()
        assert web.staged() == []


@pytest.fixture
def web(serve: Callable[..., Web]) -> Web:
    """A server with default settings."""
    return serve()
