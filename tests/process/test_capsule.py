"""What is left of an abnormal end: the capsule beside the output, written by whoever learns of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

from agent.model import LogPolicy, RestartPolicy
from agent.store.segments import crash_path, crash_runs
from tests.support.wait import eventually

SECONDS = 60.0
HUNGRY = """
import os, sys, time
if os.path.exists("calm"): time.sleep(1000)
held = bytearray(40_000_000)
for n in range(2000): print("line", n, flush=False)
sys.stdout.flush()
os.kill(os.getpid(), 11)
"""


def capsules(shims: Any, project: str) -> List[Dict[str, Any]]:
    layout = shims.store.project(project)
    return [json.loads(Path(crash_path(layout, run)).read_bytes()) for run in crash_runs(layout)]


def events(shims: Any, project: str, name: str) -> List[Dict[str, Any]]:
    lines = Path(shims.store.project(project).events).read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == name]


def test_a_capsule_tells_how_a_run_ended(shims: Any) -> None:
    shims.add_release("web", HUNGRY, restart=RestartPolicy("never"), logs=LogPolicy(segment_bytes=4096, segments=20))
    shims.up("web")
    shims.await_state("web", "failed", seconds=SECONDS)
    (capsule,) = capsules(shims, "web")
    assert (capsule["run"], capsule["version"], capsule["digest"]) == (1, "1", "0" * 64)
    assert capsule["exit_cause"]["signal"] == 11 and capsule["exits"][-1]["run"] == 1
    assert capsule["last_lines"] == [f"line {n}" for n in range(1900, 2000)]
    assert capsule["resources"]["peak_bytes"] >= 40_000_000 and capsule["resources"]["cpu_seconds"] > 0
    assert capsule["out_of_memory"]["killed"] is False
    assert {"PATH", "PERSIST_DIR", "VERSION"} <= set(capsule["environment"])
    assert str(shims.store.root) not in json.dumps(capsule["environment"])
    assert events(shims, "web", "decision")[-1]["decision"] == "give_up"


def test_the_last_lines_are_of_this_run_only(shims: Any) -> None:
    shims.add_release("twice", "import sys; print('only line'); sys.exit(3)", restart=RestartPolicy("always", 0.01, 0.02))
    layout = shims.store.project("twice")
    open(layout.release("1") + "/calm", "w").close()
    shims.add_release("twice", HUNGRY, "1")
    shims.up("twice")
    shims.await_state("twice", "ready", seconds=SECONDS)
    assert capsules(shims, "twice") == []
    shims.add_release("twice", "import sys; print('only line'); sys.exit(3)", "2")
    shims.up("twice", "2", fallback="1")
    eventually(lambda: capsules(shims, "twice"), SECONDS, "a capsule")
    assert capsules(shims, "twice")[-1]["last_lines"] == ["only line"]


def test_the_last_ten_are_kept(shims: Any) -> None:
    script = "import os, sys, time\nwhile not os.path.exists('go'): time.sleep(0.01)\nsys.exit(4)"
    shims.run("loop", script, restart=RestartPolicy("always", 0.01, 0.02))
    layout = shims.store.project("loop")
    open(layout.release("1") + "/go", "w").close()
    eventually(lambda: crash_runs(layout)[:1] >= [3], SECONDS, lambda: f"runs {crash_runs(layout)}")
    shims.down("loop")
    runs = crash_runs(layout)
    assert len(runs) == 10 and runs == list(range(runs[0], runs[0] + 10))


def test_a_run_that_was_stopped_or_did_its_work_leaves_none(shims: Any) -> None:
    shims.run("calm", "import time; time.sleep(1000)")
    shims.down("calm")
    shims.add_release("done", "print('done')", restart=RestartPolicy("never"))
    shims.up("done")
    shims.await_state("done", "exited", seconds=SECONDS)
    assert capsules(shims, "calm") == capsules(shims, "done") == []


def test_rotations_are_told_among_the_events(shims: Any) -> None:
    script = "import time\nfor n in range(10**9):\n print('x' * 200, flush=True); time.sleep(0.01)"
    shims.run("slow", script, logs=LogPolicy(segment_bytes=1024, segments=5))
    (told, *_) = eventually(lambda: events(shims, "slow", "rotated"), SECONDS, "a rotation")
    assert told["from"] == 1 and told["to"] >= 2
