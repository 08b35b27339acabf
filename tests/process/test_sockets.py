"""Sockets that a shim holds: bound once, passed on, and shared by the old run and the new one while they change places."""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import replace
from typing import Any, Dict, Optional

import pytest

from agent.host import procfs
from agent.host.connections import sockets_of
from agent.model import Readiness, StopPolicy
from agent.shim.record import Record
from agent.store import releases
from tests.support import http
from tests.support.kernel import gives_descriptors
from tests.support.wait import eventually

#: Serves its own pid on every socket it was given; after SIGTERM it answers what it has accepted, and ends.
SERVER = """
import os, selectors, signal, socket, sys, time
names = os.environ["LISTEN_FDNAMES"].split(":")
assert os.environ["LISTEN_PID"] == str(os.getpid()) and int(os.environ["LISTEN_FDS"]) == len(names)
is_over = []
signal.signal(signal.SIGTERM, lambda *_: is_over.append(1))
selector = selectors.DefaultSelector()
for index, name in enumerate(names):
    listener = socket.socket(fileno=3 + index)
    listener.setblocking(False)
    selector.register(listener, selectors.EVENT_READ, name)
print("serving", *names, flush=True)
while not is_over:
    for key, _ in selector.select(0.1):
        try:
            connection, _ = key.fileobj.accept()
        except BlockingIOError:
            continue
        connection.settimeout(5)
        with connection:
            if connection.recv(65536):
                body = f"{key.data} {os.getpid()}"
                connection.sendall(f"HTTP/1.1 {STATUS} X\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n{body}".encode())
"""


def launch(
    shims: Any, script: str, sockets: Dict[str, str], version: str = "1", fallback: Optional[str] = None
) -> Record:  # fmt: skip
    """That release under a new generation, ready by its first socket; the record once its outcome is known."""
    release = shims.add_release("web", script, version=version, stop=StopPolicy(grace_seconds=60))
    first = next(iter(sockets.values()))
    readiness = Readiness("tcp", first, 30) if first.startswith("unix:") is False else None
    releases.commit(shims.store.project("web"), replace(release, sockets=sockets, readiness=readiness))
    want = shims.up("web", version=version, fallback=fallback)
    record: Record = shims.handle("web").wait(lambda r: r.outcome is not None and r.outcome.generation == want.generation, 60)
    assert record is not None, shims.handle("web").record()
    return record


def server(status: int = 200) -> str:
    return SERVER.replace("{STATUS}", str(status))


def answer(port: int) -> str:
    return http.request(("127.0.0.1", port), "GET", "/").body.decode()


def gone(shims: Any) -> Record:
    """The record once nothing retires any more."""
    record: Record = shims.handle("web").wait(lambda r: r.successor is None, 60)
    assert record is not None, shims.handle("web").record()
    return record


def test_every_kind_is_passed_by_name(shims: Any) -> None:
    port = http.free_port()
    record = launch(shims, server(), {"http": f"127.0.0.1:{port}", "local": "unix:web.sock"})
    assert record.state == "ready" and answer(port) == f"http {record.pid}"
    path = os.path.join(shims.store.project("web").data, "web.sock")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(path)
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert connection.recv(65536).endswith(f"local {record.pid}".encode())
    shims.down("web")
    assert not os.path.exists(path)
    with pytest.raises(ConnectionRefusedError):
        answer(port)


def test_a_run_that_crashes_leaves_the_socket_open(shims: Any) -> None:
    port = http.free_port()
    first = launch(shims, server(), {"http": f"127.0.0.1:{port}"})
    os.kill(first.pid or 0, signal.SIGKILL)
    assert answer(port) != f"http {first.pid}"  # it waits in the backlog, and is never refused


def test_new_and_old_overlap_and_the_old_one_drains(shims: Any) -> None:
    port = http.free_port()
    old = launch(shims, server(), {"http": f"127.0.0.1:{port}"})
    with socket.create_connection(("127.0.0.1", port), 60) as held:
        eventually(lambda: len(sockets_of(old.pid or 0)) > 1, 30, "the old one has accepted")
        new = launch(shims, server(), {"http": f"127.0.0.1:{port}"}, "2", "1")
        assert (new.state, new.version, new.adopted) == ("ready", "2", False) and new.pid != old.pid
        assert procfs.is_alive(old.pid or 0, old.start_time or 0), "it has yet to answer"
        assert answer(port) == f"http {new.pid}"
        held.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert held.recv(65536).endswith(f"http {old.pid}".encode())
    after = gone(shims)
    assert not procfs.is_alive(old.pid or 0, old.start_time or 0) and after.pid == new.pid
    assert after.exits[-1]["version"] == "1" and after.exits[-1]["exit_cause"]["code"] == 0 and not after.exits[-1]["by_itself"]


@pytest.mark.parametrize("script", ["raise SystemExit(7)", "import time; time.sleep(1000)"])
def test_a_new_one_that_fails_leaves_the_old_one_untouched(shims: Any, script: str) -> None:
    port = http.free_port()
    sockets = {"http": f"127.0.0.1:{port}"}
    old = launch(shims, server(), sockets)
    release = shims.add_release("web", script, version="2")
    readiness = Readiness("http", f"http://127.0.0.1:{port}/", 3)
    releases.commit(shims.store.project("web"), replace(release, sockets=sockets, readiness=readiness))
    want = shims.up("web", version="2", fallback="1")
    record = shims.handle("web").wait(lambda r: r.outcome.generation == want.generation and r.successor is None, 60)
    assert record is not None, shims.handle("web").record()
    assert not record.outcome.ready and record.outcome.run == 2 and record.outcome.step == "ready"
    assert (record.pid, record.start_time, record.version, record.state) == (old.pid, old.start_time, "1", "ready")
    assert answer(port) == f"http {old.pid}"
    assert [process.pid for process in shims.leftovers()] == [old.pid]


def test_a_kill_ends_both_at_once(shims: Any) -> None:
    port = http.free_port()
    sockets = {"http": f"127.0.0.1:{port}"}
    launch(shims, server(), sockets)
    release = shims.add_release("web", "import time; time.sleep(1000)", version="2")
    readiness = Readiness("file", "never", 600)
    releases.commit(shims.store.project("web"), replace(release, sockets=sockets, readiness=readiness))
    shims.up("web", version="2", fallback="1")
    assert shims.handle("web").wait(lambda r: r.successor is not None, 60)
    record = shims.down("web")
    assert len(record.killed) >= 2 and record.successor is None and shims.leftovers() == []


@pytest.mark.parametrize("moment", ["before", "during"])
def test_the_shim_may_die(shims: Any, moment: str) -> None:
    """The next one has the sockets back where the kernel lets it; else a replacement does not overlap, but it happens."""
    port = http.free_port()
    sockets = {"http": f"127.0.0.1:{port}"}
    old = launch(shims, server(), sockets)
    shim = (old.shim or {})["pid"]
    if moment == "before":
        os.kill(shim, signal.SIGKILL)
        shims.handle("web").wait(lambda r: r.adopted, 60)
        shims.handle("web").see_to_it()
    wait = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\n"
    release = shims.add_release("web", wait + server(), version="2")
    readiness = Readiness("http", f"http://127.0.0.1:{port}/", 60)
    releases.commit(shims.store.project("web"), replace(release, sockets=sockets, readiness=readiness))
    want = shims.up("web", version="2", fallback="1")
    seen = shims.handle("web").wait(lambda r: r.successor is not None or r.version == "2", 60)
    assert seen is not None
    if moment == "during" or gives_descriptors():
        assert seen.version == "1", "they overlap"
    if moment == "during":
        os.kill(shim, signal.SIGKILL)
    with open(os.path.join(shims.store.project("web").release("2"), "go"), "w", encoding="ascii"):
        pass
    record = shims.handle("web").wait(lambda r: r.outcome.generation == want.generation and r.successor is None, 60)
    assert record is not None and record.outcome.ready, shims.handle("web").record()
    assert answer(port) == f"http {record.pid}" and record.version == "2"
    assert [process.pid for process in shims.leftovers()] == [record.pid]


def test_a_taken_address_names_who_has_it(shims: Any) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        record = launch(shims, server(), {"http": address})
    assert record.outcome is not None and not record.outcome.ready and record.outcome.step == "start"
    assert f"sockets.http: {address} is taken by process {os.getpid()} (" in record.outcome.reason
