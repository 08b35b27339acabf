"""Foreign errors as ours: each once, here."""

from __future__ import annotations

import errno
import json
import os

import pytest

from agent.errors import KINDS, AgentError, Busy, NotFound, StorageFull
from agent.web import problems


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_is_a_whole_response(kind: str) -> None:
    data = problems.response(KINDS[kind]("What happened."))
    head, _, body = data.partition(b"\r\n\r\n")
    document = json.loads(body)
    assert head.startswith(f"HTTP/1.1 {document['status']} ".encode())
    assert f"Content-Length: {len(body)}\r\n".encode() in head + b"\r\n" and b"Connection: close" in head
    assert b"Content-Type: application/problem+json" in head and body.endswith(b"\n")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EMFILE, Busy),
        (errno.ENFILE, Busy),
        (errno.EAGAIN, Busy),
        (errno.EROFS, StorageFull),
        (errno.EIO, AgentError),
        (errno.EXDEV, AgentError),
    ],
)
def test_what_the_kernel_refuses(number: int, kind: type[AgentError], capsys: pytest.CaptureFixture[str]) -> None:
    error = problems.from_exception(OSError(number, os.strerror(number)))
    assert type(error) is kind
    assert ("OSError" in capsys.readouterr().err) is (number == errno.EXDEV)


def test_no_memory_and_no_threads_are_no_incident(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (MemoryError(), RuntimeError("can't start new thread")):
        refusal = problems.from_exception(error)
        assert type(refusal) is Busy and refusal.hint
    assert capsys.readouterr().err == ""
    assert type(problems.from_exception(RuntimeError("else"))) is AgentError


def test_our_own_errors_stay_what_they_are() -> None:
    error = NotFound("x")
    assert problems.from_exception(error) is error


@pytest.mark.parametrize(
    ("status", "given"),
    [(400, 400), (404, 404), (405, 405), (413, 413), (431, 431), (501, 501), (418, 400), (500, 500)],
)
def test_what_the_server_found(status: int, given: int) -> None:
    assert problems.from_server(status, "<b>reason</b>").status == given


def test_an_unknown_status_has_a_line() -> None:
    assert problems.status_line(507) == "507 Insufficient Storage" and problems.status_line(799) == "799 Problem"
