"""Servers as they come from Debian, as artifacts with nothing but a run.sh or Procfile: launched, replaced, killed."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import socket
import sys
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, Optional, Set

import pytest

from agent.host import procfs
from tests.support import artifact, http
from tests.support.agent import AgentHost
from tests.support.traffic import Traffic, traffic
from tests.support.wait import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NGINX = """
worker_processes 2;
pid nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server { listen 127.0.0.1:PORT; location / { return 200 "VERSION"; } }
}
"""
START_NGINX = """#!/bin/sh
mkdir -p "$PERSIST_DIR/$VERSION"
exec nginx -p "$PERSIST_DIR/$VERSION" -c "$RELEASE_DIR/nginx.conf" -e stderr -g 'daemon off;'
"""
NODE = """
const server = require("http").createServer((request, response) => response.end(process.env.VERSION));
process.on("SIGTERM", () => server.close(() => process.exit(0)));
server.listen({fd: 3});
"""
WSGI = """
import os
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [os.environ["VERSION"].encode()]
"""
ASGI = """
import os
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": os.environ["VERSION"].encode()})
"""
PIPELINE = """#!/bin/sh
while :; do echo "tick $VERSION"; sleep 0.05; done | sed -u 's/^/heard: /' | tee -a "$PERSIST_DIR/heard"
"""
POSTGRES = """#!/bin/sh
exec BIN/postgres -D "$PERSIST_DIR/db" -k "$PERSIST_DIR" -c listen_addresses=
"""


@dataclass(frozen=True)
class Software:
    """A program that must be installed, the files of its artifact (PORT and VERSION are filled in), what its manifest needs."""

    program: str
    files: Dict[str, str]
    manifest: Dict[str, Any] = field(default_factory=dict)
    #: Whether it answers its version over HTTP, on a socket that the shim holds.
    is_on_socket: bool = False
    #: What is to be seen of a version that runs; None for GET / on its port.
    shows: Optional[Callable[[AgentHost, int, str], bool]] = None
    processes: int = 1


def redis_answers(host: AgentHost, port: int, version: str) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(100) == b"+PONG\r\n"
    return False


def printed(host: AgentHost, port: int, version: str) -> bool:
    return f" {version}\n".encode() in host.project_output("software")


def accepts_connections(host: AgentHost, port: int, version: str) -> bool:
    return b"database system is ready to accept connections" in host.project_output("software")


BIN = (sorted(glob.glob("/usr/lib/postgresql/*/bin")) or [""])[-1]
INITDB = f'test -d "$PERSIST_DIR/db" || {BIN}/initdb -A trust -D "$PERSIST_DIR/db"'
QUIT = {"stop": {"signal": "SIGQUIT", "grace_seconds": 30}}
SOFTWARE = {
    "nginx": Software("nginx", {"nginx.conf": NGINX, "run.sh": START_NGINX}, QUIT, processes=3),
    "nginx-on-socket": Software(
        "nginx", {"nginx.conf": NGINX, "run.sh": START_NGINX.replace("exec nginx", 'NGINX="3;" exec nginx')}, QUIT, True,
        processes=3,
    ),
    "redis-daemonized": Software(
        "redis-server",
        {"run.sh": '#!/bin/sh\nexec redis-server --port PORT --bind 127.0.0.1 --daemonize yes --dir "$PERSIST_DIR" --save ""\n'},
        {"readiness": {"tcp": "127.0.0.1:PORT", "timeout_seconds": 60}}, shows=redis_answers,
    ),
    "postgresql": Software(
        f"{BIN}/postgres", {"run.sh": POSTGRES.replace("BIN", BIN)},
        {
            "user": "postgres", "before_launch": [INITDB], "stop": {"signal": "SIGINT", "grace_seconds": 60},
            "readiness": {"command": f'{BIN}/pg_isready -q -h "$PERSIST_DIR"', "timeout_seconds": 60},
        },
        shows=accepts_connections, processes=4,
    ),
    "gunicorn": Software(
        "gunicorn", {"Procfile": "web: exec gunicorn -w 2 app:app\n", "app.py": WSGI}, is_on_socket=True, processes=3
    ),
    "uvicorn": Software("uvicorn", {"Procfile": "web: exec uvicorn --fd 3 app:app\n", "app.py": ASGI}, is_on_socket=True),
    "node": Software("node", {"run.sh": "#!/bin/sh\nexec node server.js\n", "server.js": NODE}, is_on_socket=True),
    "pipeline": Software("sh", {"run.sh": PIPELINE}, shows=printed, processes=4),
    "cron-like": Software(
        "sh", {"run.sh": '#!/bin/sh\nwhile sleep 0.1; do (echo "job of $VERSION"; sleep 0.02); done\n'}, shows=printed
    ),
}  # fmt: skip


@pytest.fixture
def host(pyz: str) -> Iterator[AgentHost]:
    """An agent of its own on the default Python."""
    with AgentHost(pyz, os.path.realpath(sys.executable)) as agent_host:
        yield agent_host


def launch(host: AgentHost, software: Software, port: int, version: str) -> Any:
    manifest: Dict[str, Any] = {"readiness": {"http": f"http://127.0.0.1:{port}/", "timeout_seconds": 60}}
    if software.shows is not None:
        manifest = {}
    if software.is_on_socket:
        manifest["sockets"] = {"http": f"127.0.0.1:{port}"}
    text = json.dumps({**manifest, **software.manifest})
    files = {"anthill.json": text, **software.files}
    members = {
        name: (content.replace("PORT", str(port)).replace("VERSION\"; } }", version + "\"; } }").encode(), 0o755)
        for name, content in files.items()
    }  # fmt: skip
    path = artifact.write(artifact.encode(members, "tar.gz"), f"{version}.tar.gz", host.artifacts)
    return host.launch("software", path, version=version)


@pytest.mark.parametrize("name", SOFTWARE)
def test_launched_replaced_killed(host: AgentHost, name: str) -> None:
    software, port = SOFTWARE[name], http.free_port()
    if not shutil.which(software.program):
        pytest.skip(f"{os.path.basename(software.program) or 'postgres'} is not installed")
    if "user" in software.manifest and os.geteuid() != 0:
        pytest.skip("needs root")

    def shows(version: str) -> bool:
        if software.shows is not None:
            return software.shows(host, port, version)
        with contextlib.suppress(OSError):
            return http.request(("127.0.0.1", port), "GET", "/").body == version.encode()
        return False

    reply = launch(host, software, port, "1")
    assert reply.status == 201, reply
    eventually(lambda: shows("1"), 60, lambda: host.project_output("software").decode()[-2000:])
    eventually(lambda: len(tree(host)) >= software.processes, 60, "all of its processes")
    before = tree(host)
    with traffic(port, 100) if software.is_on_socket else contextlib.nullcontext(Traffic()) as seen:
        reply = launch(host, software, port, "2")
        assert reply.status == 201, reply
        eventually(lambda: shows("2"), 60, lambda: host.project_output("software").decode()[-2000:])
        eventually(lambda: not before & tree(host), 60, "the old one is gone")
    assert seen.failures == []
    eventually(lambda: len(tree(host)) >= software.processes, 60, "all of its processes")
    last = tree(host)
    killed = host.kill("software")
    assert killed.status == 200 and len(killed.json["killed"]) >= software.processes, killed
    assert killed.json["survivors"] == [] and host.project_processes("software") == []
    assert not last & {process.pid for process in procfs.processes()}


@pytest.mark.parametrize("name", ["nginx-on-socket", "redis-daemonized"])
def test_what_has_overwritten_its_environment_is_found_by_another_shim(host: AgentHost, name: str) -> None:
    software, port = SOFTWARE[name], http.free_port()
    if not shutil.which(software.program):
        pytest.skip(f"{software.program} is not installed")
    assert launch(host, software, port, "1").status == 201
    before = tree(host)
    dead = host.crash_shim("software")
    eventually(lambda: host.record("software")["shim"]["pid"] != dead.pid, 60, "another shim")
    if software.is_on_socket:
        with traffic(port, 100) as seen:
            assert launch(host, software, port, "2").status == 201
            eventually(lambda: not before & {process.pid for process in procfs.processes()}, 60, "the old one is gone")
        assert seen.failures == []
    killed = host.kill("software")
    assert killed.status == 200 and len(killed.json["killed"]) >= software.processes, killed
    eventually(lambda: not before & {process.pid for process in procfs.processes()}, 60, "nothing is left")


def tree(host: AgentHost) -> Set[int]:
    """What hangs below the project's shim; a server may have written its title over the environment that we look for."""
    return {process.pid for process in procfs.descendants([host.shim_pid("software")], procfs.processes())}
