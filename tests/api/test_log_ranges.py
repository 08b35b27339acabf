"""A download that broke off goes on where it was, in the same tar or not at all."""

from __future__ import annotations

import os
from typing import Dict

import pytest

from tests.api.conftest import BEARER, Web, problem
from tests.api.test_routes import make_logs
from tests.support.http import Response

LOGS = "/project/web/logs"


def get(web: Web, **headers: str) -> Response:
    named: Dict[str, str] = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.request("GET", LOGS, headers={**BEARER, **named})


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [("bytes=0-99", 0, 100), ("bytes=600-", 600, None), ("bytes=-512", -512, None), ("bytes=1000-99999999", 1000, None)],
)
def test_a_part_of_the_tar(web: Web, text: str, begin: int, end: int) -> None:
    make_logs(web)
    whole = get(web)
    assert whole.headers["accept-ranges"] == "bytes"
    part = get(web, Range=text)
    assert part.status == 206 and part.body == whole.body[begin:end]
    assert int(part.headers["content-length"]) == len(part.body)
    first = whole.body.index(part.body) if begin >= 0 else len(whole.body) + begin
    assert part.headers["content-range"] == f"bytes {first}-{first + len(part.body) - 1}/{len(whole.body)}"
    assert part.headers["etag"] == whole.headers["etag"]


@pytest.mark.parametrize("text", ["bytes=5-2", "lines=1-2", "bytes=0-1,4-5", "bytes=-", "bytes=a-b", "bytes"])
def test_what_is_no_single_range_gets_all_of_it(web: Web, text: str) -> None:
    make_logs(web)
    assert get(web, Range=text).status == 200


@pytest.mark.parametrize("text", ["bytes=99999999-", "bytes=-0"])
def test_what_is_not_there(web: Web, text: str) -> None:
    make_logs(web)
    size = len(get(web).body)
    answer = get(web, Range=text)
    problem(answer, 416)
    assert answer.headers["content-range"] == f"bytes */{size}"


def test_a_download_goes_on_in_the_same_snapshot(web: Web) -> None:
    make_logs(web)
    whole = get(web)
    with open(f"{web.store.project('web').logs}/output-00000010.log", "ab") as file:
        file.write(b"more" * 1000)
    rest = get(web, Range="bytes=700-", If_Range=whole.headers["etag"])
    assert rest.status == 206 and whole.body[:700] + rest.body == whole.body
    os.unlink(f"{web.store.project('web').logs}/output-00000009.log")
    begun_again = get(web, Range="bytes=700-", If_Range=whole.headers["etag"])
    assert begun_again.status == 200 and begun_again.headers["etag"] != whole.headers["etag"]
    assert begun_again.body == get(web).body


def test_a_head_has_no_parts(web: Web) -> None:
    make_logs(web)
    answer = web.request("HEAD", LOGS, headers={**BEARER, "Range": "bytes=0-9"})
    assert answer.status == 200 and answer.headers["content-length"] == str(len(get(web).body))
