"""Output as text, over real sockets: streamed by threads of its own, followed until the client goes."""

from __future__ import annotations

import gzip
import http.client
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple

import pytest

from agent.host import clock
from agent.shim.record import Want, write_want
from agent.store.layout import ProjectLayout
from agent.store.segments import STDERR, STDOUT, mark, segment_name, stream_mark, streams_name, times_path
from tests.api.conftest import BEARER, Web, head, read_until_end
from tests.support.wait import eventually

TEXT = "/project/web/logs?format=text"
T0 = 1_700_000_000


@pytest.fixture
def project(web: Web) -> ProjectLayout:
    return make_project(web)


def make_project(web: Web) -> ProjectLayout:
    layout = web.store.project("web")
    os.makedirs(layout.logs)
    write_want(layout, Want(True, 1, "1"))
    return layout


def write(layout: ProjectLayout, content: bytes, number: int = 1) -> None:
    with open(f"{layout.logs}/{segment_name(number)}", "ab") as file:
        file.write(content)


def start(layout: ProjectLayout, run: int, segment: int, offset: int) -> None:
    with open(layout.events, "a") as file:
        file.write(json.dumps({"event": "start", "run": run, "segment": segment, "offset": offset}) + "\n")


class Followers:
    """Clients that read on; closed at the end of the test."""

    def __init__(self, web: Web) -> None:
        self.web = web
        self.open: List[http.client.HTTPResponse] = []

    def __call__(self, path: str = TEXT + "&follow=true") -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(*self.web.address, timeout=30)
        connection.request("GET", path, headers=BEARER)
        self.open.append(connection.getresponse())  # the connection is the answer's from here on
        return self.open[-1]

    def close(self) -> None:
        for answer in self.open:
            answer.close()


@pytest.fixture
def follow(web: Web) -> Iterator[Followers]:
    followers = Followers(web)
    yield followers
    followers.close()


def test_the_whole_output_in_both_shapes(web: Web, project: ProjectLayout) -> None:
    content = bytes(range(256)) * 1000 + b"\xff no newline"
    write(project, content[:100_000])
    write(project, content[100_000:], 2)
    answer = web.request("GET", TEXT)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert answer.headers["transfer-encoding"] == "chunked" and answer.headers["cache-control"] == "no-store"
    assert answer.body == content
    call = {"project": "web", "format": "text", "tail": 1}
    answer = web.request("POST", "/get_project_logs", json.dumps(call).encode(), {**BEARER, "Content-Type": "application/json"})
    assert answer.body == content[content.rindex(b"\n") + 1 :]


def test_a_project_without_output_and_one_that_is_not_there(web: Web, project: ProjectLayout) -> None:
    assert web.request("GET", TEXT).body == b""
    assert web.request("GET", "/project/other/logs?format=text").status == 404


def test_head_tells_the_type_and_holds_nothing(web: Web, project: ProjectLayout) -> None:
    write(project, b"line\n")
    for path in (TEXT, TEXT + "&follow=true", "/project/web/logs?compress=gzip"):
        answer = web.request("HEAD", path)
        assert answer.status == 200 and answer.body == b""
    eventually(lambda: web.server.readers == 0, message="every place is given back")


def test_an_old_client_gets_no_chunks(web: Web, project: ProjectLayout) -> None:
    write(project, b"line\n")
    with web.connect() as connection:
        connection.sendall(head("GET", TEXT, **BEARER).replace(b"HTTP/1.1", b"HTTP/1.0"))
        received = read_until_end(connection)
    assert received.endswith(b"\r\n\r\nline\n") and b"chunked" not in received


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("tail=2", b"four\nfive\n"),
        ("tail=0", b""),
        ("grep=o", b"one\ntwo\nfour\n"),
        ("grep=o&tail=1", b"four\n"),
        (f"since={clock.timestamp(T0 + 10)}", b"three\nfour\nfive\n"),
        (f"since={clock.timestamp(T0 + 11)}", b"four\nfive\n"),
        (f"since={T0 + 11}", b"four\nfive\n"),
        (f"until={clock.timestamp(T0 + 10)}", b"one\ntwo\nthree\n"),
        (f"since={T0 + 5}&until={T0 + 15}", b"three\n"),
        (f"until={T0 - 5}", b""),
        ("since=5", b""),
        ("since=1970-01-01", b"one\ntwo\nthree\nfour\nfive\n"),
        ("run=1", b"one\ntwo\n"),
        ("run=2", b"three\n"),
        ("run=last", b"four\nfive\n"),
        ("run=last&tail=1", b"five\n"),
    ],
)
def test_what_can_be_asked_for(web: Web, project: ProjectLayout, query: str, expected: bytes) -> None:
    write(project, b"one\ntwo\nthree\n")
    write(project, b"four\nfive\n", 2)
    marks = [(T0, 1, 0), (T0 + 10, 1, 8), (T0 + 20, 2, 0)]
    Path(times_path(project.logs)).write_bytes(b"".join(mark(clock.timestamp(at), *place) for at, *place in marks))
    for number in (1, 2):
        os.utime(f"{project.logs}/{segment_name(number)}", (T0 + 10 * number, T0 + 10 * number))
    for place in ((1, 1, 0), (2, 1, 8), (3, 2, 0)):
        start(project, *place)
    answer = web.request("GET", f"{TEXT}&{query}")
    assert (answer.status, answer.body) == (200, expected), answer
    if "tail=0" in query:
        return
    assert web.request("GET", f"{TEXT}&run=7").status == 404


def test_one_of_two_streams(web: Web, project: ProjectLayout) -> None:
    write(project, b"out\nerr\nout 2\n")
    marks = b"".join(stream_mark(*mark) for mark in ((4, STDERR), (8, STDOUT)))
    Path(project.logs, streams_name(1)).write_bytes(marks)
    start(project, 1, 1, 0)
    assert web.request("GET", TEXT + "&stream=stderr&run=last").body == b"err\n"
    assert web.request("GET", TEXT + "&stream=stdout&tail=1").body == b"out 2\n"
    assert web.request("GET", TEXT).body == b"out\nerr\nout 2\n"
    assert web.request("GET", TEXT + "&stream=both").status == 400


def test_compressed(web: Web, project: ProjectLayout) -> None:
    content = b"".join(b"line %d\n" % n for n in range(200_000))
    write(project, content)
    answer = web.request("GET", TEXT + "&compress=gzip")
    assert answer.headers["content-type"] == "application/gzip" and gzip.decompress(answer.body) == content
    answer = web.request("GET", "/project/web/logs?compress=gzip")
    assert answer.headers["content-disposition"] == 'attachment; filename="web-logs.tar.gz"'
    with tarfile.open(fileobj=io.BytesIO(answer.body), mode="r:gz") as tar:
        stream = tar.extractfile("web/logs/" + segment_name(1))
        assert stream is not None and stream.read() == content


def test_following_over_rotations_until_the_client_goes(web: Web, project: ProjectLayout, follow: Followers) -> None:
    write(project, b"first\n")
    answer = follow()
    assert answer.readline() == b"first\n"
    for number in range(1, 6):
        write(project, b"line %d\n" % number, number)
        assert answer.readline() == b"line %d\n" % number
    write(project, b"no newline ye", 5)
    assert answer.read(13) == b"no newline ye"
    assert web.server.readers == 1
    follow.close()
    eventually(lambda: web.server.readers == 0, message="the follower's end is noticed")


def test_following_what_matches(web: Web, project: ProjectLayout, follow: Followers) -> None:
    answer = follow(TEXT + "&follow=true&grep=good")
    write(project, b"bad\nsome good")
    write(project, b" line\nbad\n")
    assert answer.readline() == b"some good line\n"


def test_following_ends_with_the_project(web: Web, project: ProjectLayout, follow: Followers) -> None:
    answer = follow()
    os.rename(project.root, project.root + "-purged")  # as a purge begins
    assert answer.read() == b""


def test_followers_are_bounded_and_take_no_worker(serve: Callable[..., Web]) -> None:
    web = serve(followers=30)
    project = make_project(web)
    write(project, b"x" * 50_000_000)  # more than any socket buffer: nobody reads it
    follow = Followers(web)
    for _ in range(30):
        follow()
    refused = web.request("GET", TEXT + "&follow=true")
    assert refused.status == 503 and refused.headers["retry-after"] == "5", refused
    assert web.request("GET", "/project").status == 200
    assert web.request("GET", TEXT + "&tail=1").body == b"x" * 50_000_000
    follow.close()
    eventually(lambda: web.server.readers == 0, message="all places are free again")


def test_a_drain_ends_followers_and_lets_readers_finish(serve: Callable[..., Web]) -> None:
    web = serve()
    project = make_project(web)
    write(project, b"x" * 20_000_000 + b"\n")
    follow = Followers(web)
    reader, follower = follow(TEXT), follow(TEXT + "&follow=true&tail=0")
    web.server.drain()
    assert follower.read() == b""
    assert len(reader.read()) == 20_000_001
    follow.close()


def test_what_was_rotated_away_before_it_was_read_cuts_the_answer_off(web: Web, project: ProjectLayout, follow: Any) -> None:
    write(project, b"line\n")
    answer = follow()
    assert answer.readline() == b"line\n"
    os.rename(f"{project.logs}/{segment_name(1)}", f"{project.logs}/gone")
    os.unlink(f"{project.logs}/gone")
    write(project, b"line\n", 9)
    with pytest.raises(http.client.IncompleteRead):
        answer.read()


def marked(answer: bytes) -> List[Tuple[str, bytes]]:
    """The pieces of an answer with marks, each with its mark."""
    found, stream = [], io.BytesIO(answer)
    for line in iter(stream.readline, b""):
        place, size = line.split()
        found.append((place.decode(), stream.read(int(size))))
    return found


@pytest.mark.parametrize("query", ["", "&grep=needle", "&stream=stdout", "&stream=stderr&grep=needle"])
def test_from_each_mark_on_the_rest_can_be_had(web: Web, project: ProjectLayout, query: str) -> None:
    """Segments end within lines, a line is longer than a piece, and nothing is there twice or missing."""
    lines = [b"%d %s\n" % (n, b"needle" if n % 3 == 0 else b"hay" * (n % 7)) for n in range(300)]
    output = b"".join([*lines, b"needle " + b"x" * 200_000 + b"\n", b"the last needle\n"])
    for number, cut in enumerate(range(0, len(output), 70_000), start=1):
        write(project, output[cut : cut + 70_000], number)
        marks = [stream_mark(at, STDOUT if at % 200 else STDERR) for at in range(0, 3000, 100)]
        Path(project.logs, streams_name(number)).write_bytes(b"".join(marks))
    whole = web.request("GET", TEXT + query).body
    pieces = marked(web.request("GET", TEXT + query + "&marks=true").body)
    assert pieces[0][1] == b"" and b"".join(data for _, data in pieces) == whole and len(pieces) > 1
    for index, (place, _) in enumerate(pieces):
        rest = web.request("GET", f"{TEXT}{query}&from={place}").body
        assert rest == b"".join(data for _, data in pieces[index + 1 :]), place


def test_a_place_that_is_not_there_any_more(web: Web, project: ProjectLayout) -> None:
    assert web.request("GET", TEXT + "&marks=true").body == b"1.0 0\n"
    assert web.request("GET", TEXT + "&from=1.0").body == b""
    write(project, b"one\n", 7)
    assert web.request("GET", TEXT + "&from=7.2").body == b"e\n"
    for place in ("6.1", "7.5", "8.0"):
        refusal = web.request("GET", f"{TEXT}&from={place}")
        assert refusal.status == 404 and "from" in refusal.json["detail"], refusal
    for wrong in ("from=7", "from=7.-1", "from=7.2&tail=3", "from=7.2&since=10", "from=7.2&run=last"):
        assert web.request("GET", f"{TEXT}&{wrong}").status == 400, wrong
