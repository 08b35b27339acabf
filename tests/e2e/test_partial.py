"""Launching a folder again sends only what changed; what runs is what a whole upload would have run."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from tests.support.agent import AgentHost

pytestmark = pytest.mark.e2e


@pytest.fixture
def web_host(pyz: str) -> Iterator[AgentHost]:
    """An agent of its own on the default Python."""
    with AgentHost(pyz, os.path.realpath(sys.executable)) as host:
        yield host


class Counter:
    """A port that hands every connection on to the agent; `sent` are the bytes that callers sent through it."""

    def __init__(self, target: Tuple[str, int]) -> None:
        self.sent = 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads: List[threading.Thread] = []
        self._start(self._accept)

    def _start(self, work: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:  # closed
                return
            self._start(self._serve, caller)

    def _serve(self, caller: socket.socket) -> None:
        with caller, socket.create_connection(self._target) as agent:
            answers = threading.Thread(target=self._pump, args=(agent, caller, False))
            answers.start()
            self._pump(caller, agent, True)
            answers.join()

    def _pump(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        data = b"-"
        while data:
            try:
                data = source.recv(1 << 16)
                target.sendall(data)
            except OSError:
                data = b""
            self.sent += len(data) if counts else 0
        with contextlib.suppress(OSError):  # it is closed already
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


def launch(host: AgentHost, folder: Path) -> Tuple[Dict[str, Any], int]:
    """The reply of `launch` by the command line, and the bytes that it sent."""
    counter = Counter(host.address)
    try:
        ran = host.run("--json", "--url", counter.url, "--token", host.token, "launch", "web", str(folder), timeout_seconds=600)
    finally:
        counter.close()
    assert ran.returncode == 0, ran
    return json.loads(ran.stdout), counter.sent


@pytest.mark.parametrize("mebibytes", [6, pytest.param(100, marks=pytest.mark.slow)])
def test_only_what_changed_is_sent(web_host: AgentHost, tmp_path: Path, mebibytes: int) -> None:
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "run.sh").write_text("#!/bin/sh\ncat small; exec sleep 1000000\n")
    (folder / "small").write_text("one\n")
    for number in range(mebibytes):
        (folder / f"part-{number}").write_bytes(os.urandom(1 << 20))
    first, sent = launch(web_host, folder)
    assert first["status"] == "LaunchSuccessful" and sent > mebibytes << 20
    (folder / "small").write_text("two\n")
    second, sent_again = launch(web_host, folder)
    print(f"{sent_again} of {mebibytes << 20} bytes, {sent_again / (mebibytes << 20):.2%}")
    assert second["status"] == "LaunchSuccessful" and second["digest"] != first["digest"]
    assert sent_again < (mebibytes << 20) * 0.02
    web_host.wait_for_output("web", b"two\n")
    release = Path(web_host.path("projects", "web", "releases", second["version"]))
    assert {path.name: path.read_bytes() for path in release.iterdir()} == {p.name: p.read_bytes() for p in folder.iterdir()}
    assert all(path.stat().st_nlink == 1 for path in release.iterdir())
    third, _ = launch(web_host, folder)
    assert (third["status"], third["digest"]) == ("AlreadyRunning", second["digest"])


def test_what_a_project_changed_in_its_release_is_sent_again(web_host: AgentHost, tmp_path: Path) -> None:
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "run.sh").write_text("#!/bin/sh\nprintf x >> big; exec sleep 1000000\n")
    (folder / "big").write_bytes(os.urandom(1 << 20))
    launch(web_host, folder)
    (folder / "small").write_text("new\n")
    second, sent = launch(web_host, folder)
    assert second["status"] == "LaunchSuccessful" and sent > 1 << 20
