"""A shim that was forked ahead of its want: it waits, and then is a shim like any other."""

from __future__ import annotations

import os
from typing import Any

import pytest

from agent.host import cgroups, files, signals
from agent.shim.handle import Handle
from agent.shim.record import Want, draft_want
from tests.support.wait import eventually

SLEEPS = "import time; time.sleep(1000)"


@pytest.fixture
def handle(shims: Any) -> Handle:
    """Of a project that was never launched."""
    files.make_directory(shims.store.project("ahead").root)
    made: Handle = shims.handle("ahead")
    return made


def _arrived(handle: Handle) -> int:
    """The pid of the shim, once it is as far as it gets."""

    def pid() -> int:
        record = handle.record()
        return record.shim["pid"] if record is not None and record.shim is not None else 0

    eventually(lambda: pid() != 0, message="the shim's arrival")
    return pid()


def test_it_starts_what_is_wanted_as_soon_as_that_is_written(shims: Any, handle: Handle) -> None:
    with handle.shim_ahead():
        pid = _arrived(handle)
        shims.add_release("ahead", SLEEPS)
        shims.up("ahead")
        assert shims.await_state("ahead", "ready").shim["pid"] == pid


def test_one_that_is_not_wanted_is_gone_afterwards(handle: Handle) -> None:
    with handle.shim_ahead():
        assert handle.is_alive
    assert not handle.is_alive


@pytest.mark.needs_root
def test_the_control_group_that_is_made_ahead_is_gone_with_it(handle: Handle) -> None:
    root = os.stat(handle.layout.root)
    path = cgroups.path_of(f"{root.st_dev:x}.{root.st_ino:x}-ahead")
    if path is None or not os.access(path.partition("/ant-host-agent/")[0], os.W_OK):
        pytest.skip("needs a writable cgroup v2 tree")
    with handle.shim_ahead():
        eventually(lambda: os.path.isdir(path), message="the group")
    eventually(lambda: not os.path.isdir(path), message="the group's end")


def test_a_kill_does_not_wait_for_the_launch(shims: Any, handle: Handle) -> None:
    with handle.shim_ahead():
        _arrived(handle)
        assert shims.down("ahead").state == "exited"
    eventually(lambda: not handle.is_alive)


def test_the_end_of_the_agent_is_its_end_too(shims: Any, handle: Handle) -> None:
    with handle.shim_ahead():
        _arrived(handle)
        gate, _ = shims.control._gates.pop("ahead")
        os.close(gate)
        eventually(lambda: not handle.is_alive)


def test_another_agent_has_it_look_by_a_poke(shims: Any, handle: Handle) -> None:
    with handle.shim_ahead():
        _arrived(handle)
        shims.add_release("ahead", SLEEPS)
        draft_want(handle.layout, Want(True, 1, "1"))
        handle._poke()
        shims.await_state("ahead", "ready")


def test_no_shim_is_kept_waiting_that_has_something_to_do(shims: Any) -> None:
    record = shims.run("web", SLEEPS)
    handle = shims.handle("web")
    signals.send(record.shim["pid"], record.shim["start_time"], signals.SIGKILL)
    eventually(lambda: not handle.is_alive)
    with handle.shim_ahead():
        assert not handle.is_alive
    handle.see_to_it()
    adopted = handle.wait(lambda now: now.adopted, 60)
    assert adopted is not None
    assert adopted.pid == record.pid
