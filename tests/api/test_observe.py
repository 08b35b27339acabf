"""Metrics as Prometheus itself reads them, and events as a client hears them."""

from __future__ import annotations

import http.client
import re
from pathlib import Path
from typing import Dict, Iterator, Tuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

import build
from agent import __version__
from agent.host import clock, files
from agent.model import Release
from agent.operations import metrics, status
from agent.shim import machine
from agent.shim.record import Record, Want, write_record, write_want
from agent.store import releases
from tests.api.conftest import BEARER, Web
from tests.support.wait import eventually

T0 = 1_700_000_000.25
EXIT = {"at": clock.timestamp(T0), "run": 6, "exit_cause": {"kind": "exited", "code": 7, "text": "exited with code 7"}}


def add(web: Web, project: str, state: str, restarts: int = 0) -> None:
    layout = web.store.project(project)
    files.make_directory(layout.logs)
    files.make_directory(layout.release("1"))
    releases.commit(layout, Release(project, "1", "0" * 64, 1, ("/bin/true",)))
    Path(layout.logs, "output-00000001.log").write_bytes(b"x" * 1000)
    write_want(layout, Want(True, 1, "1"))
    record = Record(project, state, clock.timestamp(), "why", 1, True, "1", 7, restarts=restarts, exits=(EXIT,) * restarts)
    write_record(layout, record)


def scrape(web: Web) -> Dict[Tuple[str, Tuple[Tuple[str, str], ...]], float]:
    answer = web.request("GET", "/metrics")
    assert answer.status == 200 and answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8", answer
    families = list(text_string_to_metric_families(answer.body.decode()))
    assert all(family.documentation and family.type in ("gauge", "counter") for family in families)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def test_what_the_alert_rules_ask_for_is_there(web: Web) -> None:
    """A rule on a name that nobody has never fires."""
    add(web, "web", machine.READY)
    families = set(re.findall(r"^# TYPE (\S+)", web.request("GET", "/metrics").body.decode(), re.MULTILINE))
    labels = {label for _, pairs in scrape(web) for label, _ in pairs}
    rules = [Path(build.ROOT, "fixtures", "fleet", name).read_text() for name in ("alerts.yml", "alerts.test.yml")]
    asked = {name for text in rules for name in re.findall(r"ant_host_agent_\w+", text)}
    assert len(asked) > 4 and asked <= families
    told = {name for text in rules for name in re.findall(r"\$labels\.(\w+)|by \((\w+)\)", text) for name in name if name}
    assert {"project", "version"} <= told <= {*labels, "instance", "job"}, "the latter two are Prometheus's own"


def test_metrics(web: Web) -> None:
    add(web, "web", machine.FAILED, restarts=3)
    add(web, "api", machine.EXITED)
    found = scrape(web)
    assert found["ant_host_agent_info", (("digest", ""), ("version", __version__))] == 1
    assert found["ant_host_agent_projects", (("state", "failed"),)] == 1
    assert found["ant_host_agent_projects", (("state", "ready"),)] == 0
    named = (("project", "web"),)
    assert found["ant_host_agent_project_ready", named] == 0 and found["ant_host_agent_project_wanted", named] == 1
    assert found["ant_host_agent_project_restarts", named] == 3 and found["ant_host_agent_project_runs_total", named] == 7
    assert found["ant_host_agent_project_log_bytes", named] == 1000
    assert ("ant_host_agent_project_memory_bytes", named) not in found, "nothing runs"
    at = "ant_host_agent_project_last_exit_timestamp_seconds"
    assert found[at, (("cause", "exited"), ("project", "web"))] == T0
    assert [key for key in found if key[0] == at] == [(at, (("cause", "exited"), ("project", "web")))]
    assert found["ant_host_agent_store_free_bytes", ()] > 0


def test_a_label_may_hold_anything() -> None:
    text = metrics._family("x", "gauge", "help", [({"label": 'a"b\\c\nd'}, 1.5)])
    ((sample,),) = [family.samples for family in text_string_to_metric_families(text)]
    assert sample.labels == {"label": 'a"b\\c\nd'} and sample.value == 1.5


def test_what_happens_next_has_a_time(web: Web) -> None:
    record = Record("web", machine.BACKOFF, next_start_at=clock.timestamp(T0))
    assert status._next(record, {}) == {"action": "start", "at": clock.timestamp(T0)}
    assert status._next(Record("web", machine.READY), {}) is None
    assert status._next(Record("web", machine.RUNNING), {})["action"] == "call it ready"  # type: ignore[index]
    asked = status._next(Record("web", machine.RUNNING), {"readiness": {"timeout_seconds": 5}})
    assert asked is not None and asked["action"] == "give up unless ready"


def tell(web: Web, event: str, project: str = "web") -> None:
    files.append_line(web.store.events, {"at": clock.timestamp(), "project": project, "event": event}, 1 << 20)


class Listener:
    """A client that listens, as curl -N does."""

    def __init__(self, web: Web, key: Dict[str, str], query: str = "") -> None:
        connection = http.client.HTTPConnection(*web.address, timeout=60)
        connection.request("GET", "/events" + query, headers=key)
        self.answer = connection.getresponse()  # the connection is the answer's from here on
        assert self.answer.status == 200, self.answer.read()
        assert self.answer.getheader("Content-Type") == "text/event-stream"
        greeting = self.block()
        assert greeting["retry"] == "1000"
        self.begin = greeting["id"]

    def block(self) -> Dict[str, str]:
        lines = iter(self.answer.readline, b"\n")
        return dict(line.decode().rstrip("\n").split(": ", 1) for line in lines if not line.startswith(b":"))


@pytest.fixture
def listener(web: Web) -> Iterator[Listener]:
    made = Listener(web, BEARER)
    yield made
    made.answer.close()


def test_events_arrive_and_can_be_resumed(web: Web, listener: Listener) -> None:
    for event in ("launched", "ready", "exited"):
        tell(web, event)
    heard = [listener.block() for _ in range(3)]
    assert [block["event"] for block in heard] == ["launched", "ready", "exited"]
    again = Listener(web, {**BEARER, "Last-Event-ID": heard[0]["id"]})
    assert [again.block() for _ in range(2)] == heard[1:]
    again.answer.close()
    eventually(lambda: web.server.readers == 1, 30, "the end of one is noticed")


def test_a_limited_key_and_a_filter_hear_of_their_projects_only(web: Web, listener: Listener) -> None:
    assert web.request("GET", "/events?project=api").status == 404
    add(web, "api", "ready")
    limited = Listener(web, web.add_key("limited", "read", "api"))
    filtered = Listener(web, BEARER, "?project=api")
    for project in ("web", "api"):
        tell(web, "ready", project)
    for one in (limited, filtered):
        assert '"project": "api"' in one.block()["data"]
        one.answer.close()
    answer = web.request("GET", "/events?project=web", None, web.add_key("other", "read", "api"))
    assert answer.status == 403


def test_who_loses_the_stream_before_the_first_event_goes_on_from_where_it_began(web: Web) -> None:
    for told in ("launched", "ready"):
        before = Listener(web, BEARER)
        before.answer.close()
        tell(web, told)
        again = Listener(web, BEARER, f"?from={before.begin}")
        assert again.block()["event"] == told
        again.answer.close()
    assert web.request("GET", "/events?from=yesterday").status == 400


def test_a_drain_ends_listeners_cleanly(web: Web, listener: Listener) -> None:
    web.server.drain()
    assert listener.answer.read() == b""
    eventually(lambda: web.server.readers == 0, 30, "nobody is waited for")
