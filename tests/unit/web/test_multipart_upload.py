"""Multipart, whatever pieces it comes in."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Iterator, List

import pytest

from agent.errors import MalformedRequest, TooLarge
from agent.store.layout import StoreLayout
from agent.web.multipart_upload import OVERHEAD_BYTES, MultipartUpload, boundary_of
from agent.web.spool import Uploads

CONTENT = b"\r\n--bound\r\n-\r\n--boundar\r\n--boundary"
BODY = (
    b'--boundary!\r\nContent-Disposition: form-data; name="project"\r\n\r\nweb\r\n'
    b'--boundary!\r\nContent-Disposition: form-data; name="artifact"; filename="a.tar"\r\n'
    b"Content-Type: application/x-tar\r\n\r\n" + CONTENT + b"\r\n--boundary!--\r\n"
)


@pytest.fixture
def uploads(tmp_path: Path) -> Iterator[Uploads]:
    """Uploads into an empty store; at the end nothing may be left."""
    made = Uploads(StoreLayout(str(tmp_path)), 1 << 20)
    yield made
    assert len(made) == 0
    assert os.listdir(made.store.staging) == []


def take(uploads: Uploads, pieces: List[bytes]) -> MultipartUpload:
    body = MultipartUpload("boundary!", uploads.open(None), lambda _: None)
    try:
        for piece in pieces:
            body.append(piece)
    except BaseException:
        body.close()
        raise
    return body


def check(body: MultipartUpload) -> None:
    assert body.fields == {"project": b"web"}
    upload = body.finish()
    assert Path(upload.path).read_bytes() == CONTENT
    assert (upload.digest, upload.size_bytes) == (hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    os.unlink(upload.path)


def test_split_anywhere_it_is_the_same(uploads: Uploads) -> None:
    for at in range(1, len(BODY)):
        check(take(uploads, [BODY[:at], BODY[at:]]))


def test_byte_by_byte_it_is_the_same(uploads: Uploads) -> None:
    check(take(uploads, [BODY[i : i + 1] for i in range(len(BODY))]))


def test_cut_anywhere_it_is_malformed(uploads: Uploads) -> None:
    for at in range(1, len(BODY) - len(b"\r\n")):
        body = take(uploads, [BODY[:at]])
        with pytest.raises(MalformedRequest, match="multipart"):
            body.finish()
        body.close()


@pytest.mark.parametrize(
    "body",
    [
        b"preamble" * 20 + b"\r\n" + BODY,
        BODY + BODY,
        BODY.replace(b"form-data", b"attachment"),
        BODY.replace(b'name="project"', b""),
        BODY.replace(b"Content-Disposition", b"Content Disposition"),
        BODY.replace(b"\r\n\r\nweb", b"\n\nweb"),
    ],
)
def test_what_is_not_strict_is_malformed(uploads: Uploads, body: bytes) -> None:
    with pytest.raises(MalformedRequest, match="multipart"):
        take(uploads, [body[i : i + 50] for i in range(0, len(body), 50)])


def test_parts_without_end_are_refused(uploads: Uploads) -> None:
    padding = b"x-padding: " + b"x" * 4000 + b"\r\n"
    head = b'--boundary!\r\nContent-Disposition: form-data; name="project"\r\n'
    with pytest.raises(TooLarge):
        take(uploads, [head, *[padding] * 100])
    with pytest.raises(TooLarge):
        take(uploads, [head + b"\r\n", *[b"x" * 65536] * (OVERHEAD_BYTES // 65536 + 2)])


@pytest.mark.parametrize("content_type", ['multipart/form-data; boundary="a b"', "multipart/form-data; charset=x; boundary=a"])
def test_the_boundary(content_type: str) -> None:
    assert boundary_of(content_type) in ("a b", "a")


@pytest.mark.parametrize("parameters", ["", "; boundary=", "; boundary=" + "a" * 71, '; boundary="a\x00"'])
def test_a_boundary_that_is_none(parameters: str) -> None:
    with pytest.raises(MalformedRequest, match="boundary"):
        boundary_of("multipart/form-data" + parameters)
