"""Readiness of each kind: asked beside the output, until it is so or its time is over; then the old release again."""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.host import procfs
from agent.model import Readiness
from agent.shim.record import Record
from agent.store import releases
from tests.support.http import free_port
from tests.support.wait import eventually

SLEEP = "import time; print('up', flush=True); time.sleep(1000)"
SERVER = """
import http.server, time
answers = iter([503, 503])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response({status})
        self.end_headers()
        self.wfile.write(b"not yet, the cache is cold")
    def log_message(self, *arguments):
        pass
http.server.HTTPServer(("127.0.0.1", {port}), Handler).serve_forever()
"""
NOTIFY = """
import os, socket, time
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
    speaker.connect("\\0" + os.environ["NOTIFY_SOCKET"][1:])
    speaker.send(b"STATUS=warming up")
    speaker.send(b"MAINPID=1\\nREADY=1")
time.sleep(1000)
"""


def launch(shims: Any, script: str, readiness: Readiness, version: str = "1", fallback: Any = None) -> None:
    release = shims.add_release("web", script, version=version)
    releases.commit(shims.store.project("web"), replace(release, readiness=readiness))
    shims.up("web", version=version, fallback=fallback)


def outcome(shims: Any, generation: int = 1) -> Record:
    record: Record = shims.handle("web").wait(lambda r: r.outcome is not None and r.outcome.generation == generation, 30)
    assert record is not None, shims.handle("web").record()
    return record


@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_an_address_that_answers(shims: Any, kind: str) -> None:
    port = free_port()
    target = f"http://127.0.0.1:{port}/healthz?x=1" if kind == "http" else f"127.0.0.1:{port}"
    launch(shims, SERVER.format(port=port, status="next(answers, 200)"), Readiness(kind, target, 20))
    assert outcome(shims).state == "ready"
    assert procfs.is_alive(outcome(shims).pid or 0, outcome(shims).start_time or 0)


def test_a_command_that_succeeds_and_what_it_leaves_behind(shims: Any) -> None:
    launch(shims, "open('up', 'w'); " + SLEEP, Readiness("command", "sleep 1000 & test -e up", 20))
    assert outcome(shims).state == "ready"
    eventually(lambda: len(shims.leftovers()) == 1, 20, lambda: f"only the project: {shims.leftovers()}")


TOUCH = "import os, time; time.sleep(0.3); open('ready', 'w'); os.utime('ready', ({at}, {at})); "


@pytest.mark.parametrize(("was", "at"), [(1, "time.time()"), (9e9, "1")], ids=["clock-is-right", "clock-went-back"])
def test_a_file_of_this_run(shims: Any, was: float, at: str) -> None:
    """One that is there before does not count, and one that the run writes does, whatever times they have."""
    shims.add_release("web", SLEEP)
    stale = Path(shims.store.project("web").release("1"), "ready")
    stale.write_text("")
    os.utime(stale, (was, was))
    launch(shims, TOUCH.format(at=at) + SLEEP, Readiness("file", "ready", 20))
    record = outcome(shims)
    assert record.state == "ready" and stale.stat().st_mtime != was


def test_a_notification(shims: Any) -> None:
    launch(shims, NOTIFY, Readiness("notify", "", 20))
    assert outcome(shims).state == "ready"


def test_nothing_was_notified(shims: Any) -> None:
    launch(shims, NOTIFY.replace("READY=1", "READY=0"), Readiness("notify", "", 0.6))
    failed = outcome(shims).outcome
    assert failed is not None and failed.readiness == {"check": "READY=1", "error": "it was not sent yet", "said": "warming up"}


def test_the_answer_of_a_failed_check_is_kept_and_the_old_release_runs_again(shims: Any) -> None:
    shims.run("web", SLEEP)
    port = free_port()
    url = f"http://127.0.0.1:{port}/healthz"
    launch(shims, SERVER.format(port=port, status=503), Readiness("http", url, 1.5), version="2", fallback="1")
    record = shims.handle("web").wait(lambda r: r.outcome.generation == 2 and r.state == "ready", 30)
    assert record is not None and record.version == "1"
    failed = record.outcome
    assert not failed.ready and failed.step == "ready" and failed.exit_cause["kind"] == "not_ready"
    assert failed.readiness == {"check": f"GET {url}", "status": 503, "body": "not yet, the cache is cold"}
    assert f"GET {url} answered 503 (for 1.5 s)" in failed.reason


def test_a_check_that_hangs_holds_nothing_up(shims: Any) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        script = "import os, time\nfor i in range(10**5): print(i, flush=True)\ntime.sleep(1000)"
        launch(shims, script, Readiness("http", f"http://127.0.0.1:{silent.getsockname()[1]}/", 600))
        shims.await_output("web", b"99999\n")
        assert shims.handle("web").record().state == "running"
        assert shims.down("web").state == "exited"


def test_a_run_that_ends_while_it_is_asked(shims: Any) -> None:
    launch(shims, "raise SystemExit(7)", Readiness("file", "never", 600))
    failed = outcome(shims)
    assert failed.state == "failed" and failed.outcome is not None and failed.outcome.exit_cause == {
        "kind": "exited", "code": 7, "text": "exited with code 7",
    }  # fmt: skip
    assert failed.outcome.readiness is None or "not there" in failed.outcome.readiness["error"]


@pytest.mark.parametrize("victim", ["shim", "errand"])
def test_a_death_while_it_is_asked_changes_nothing(shims: Any, victim: str) -> None:
    gate = shims.store.root + "/gate"
    launch(shims, SLEEP, Readiness("command", f"test -e {gate}", 60))
    record = shims.handle("web").wait(lambda r: r.state == "running" and r.errand is not None, 60)
    os.kill(record.shim["pid"] if victim == "shim" else record.errand.pid, signal.SIGKILL)
    Path(gate).write_text("")
    after = outcome(shims)
    assert after.state == "ready" and after.pid == record.pid
