"""A run's life: start, proof, end by itself, restart, fallback."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from agent.host import drafts
from agent.model import RestartPolicy
from agent.shim.record import Want, draft_want, settle_want
from agent.store import releases
from tests.support.wait import eventually

SLEEP = "import time; print('up', flush=True); time.sleep(1000)"


def test_a_run_becomes_ready_and_is_on_record(shims: Any) -> None:
    record = shims.run("hello", SLEEP)
    assert record.outcome is not None and record.outcome.ready
    assert record.explanation == "running"
    assert shims.await_output("hello", b"up\n") == b"up\n"


def test_a_shim_goes_to_work_on_what_the_disk_has_yet_to_take(shims: Any) -> None:
    release = shims.add_release("hello", SLEEP)
    layout, handle = shims.store.project("hello"), shims.handle("hello")
    drafts.remove(layout.release_json("1"))
    releases.draft(layout, release)
    draft_want(layout, Want(True, 1, "1"))
    handle.see_to_it()
    shims.await_state("hello", "ready")
    assert not os.path.exists(layout.want) and not os.path.exists(layout.release_json("1"))
    settle_want(layout)  # as the next agent does, if this one died here
    assert os.path.exists(layout.want) and os.path.exists(layout.release_json("1"))
    assert shims.await_output("hello", b"up\n") == b"up\n"


def test_a_run_that_ends_before_it_is_ready_fails_its_launch_for_good(shims: Any) -> None:
    shims.add_release("bad", "import sys; print('oh', flush=True); sys.exit(7)")
    shims.up("bad")
    record = shims.await_state("bad", "failed")
    assert record.settled and record.outcome is not None and not record.outcome.ready
    assert record.outcome.exit_cause["code"] == 7
    eventually(lambda: not shims.handle("bad").is_alive, message="its shim leaves")


def test_a_failed_replacement_runs_the_old_release_again(shims: Any) -> None:
    before = shims.run("web", SLEEP)
    shims.add_release("web", "raise SystemExit(3)", version="2")
    shims.up("web", version="2", fallback="1")
    record = shims.handle("web").wait(lambda r: r.outcome.generation == 2 and r.state == "ready", 60)
    assert record is not None and record.version == "1" and record.pid != before.pid
    assert not record.outcome.ready and record.outcome.version == "2"


def test_a_crash_is_followed_by_a_backoff_and_another_run(shims: Any) -> None:
    policy = RestartPolicy("always", 0.05, 0.4, 10)
    shims.run("loop", "import time; time.sleep(1.2); raise SystemExit(5)", restart=policy)
    record = shims.handle("loop").wait(lambda r: r.restarts >= 1, 60)
    assert record is not None
    assert record.exits[-1]["exit_cause"] == {"kind": "exited", "code": 5, "text": "exited with code 5"}
    record = shims.handle("loop").wait(lambda r: r.state == "backoff" and r.failures >= 2, 60)
    assert record is not None and "next start at" in record.explanation


def test_a_program_that_cannot_be_executed_says_why(shims: Any) -> None:
    from dataclasses import replace

    from agent.store import releases

    release = shims.add_release("gone", "pass")
    releases.commit(shims.store.project("gone"), replace(release, command=("/nonexistent/program",)))
    shims.up("gone")
    record = shims.await_state("gone", "failed")
    assert "/nonexistent/program" in record.outcome.reason


def test_a_run_once_program_is_done_when_it_is_done(shims: Any) -> None:
    shims.add_release("once", "print('done', flush=True)", restart=RestartPolicy("on-failure"))
    shims.up("once")
    record = shims.handle("once").wait(lambda record: record.settled, 60)
    assert record is not None and record.state == "exited" and record.outcome.ready
    assert shims.output("once") == b"done\n"


def test_events_stand_beside_the_output(shims: Any) -> None:
    shims.run("hello", SLEEP)
    shims.down("hello")
    lines = [json.loads(line) for line in Path(shims.store.project("hello").events).read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", "ready", "stop", "exit"]
    assert lines[0]["segment"] == 1 and lines[0]["offset"] == 0
