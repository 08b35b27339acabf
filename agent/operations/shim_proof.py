"""The proof of a new release's shim: it does all that it is to do once it is at work, on a store of its own, before the shim at
work, which would hand everything over to it, executes itself into the new release.

A shim of this very release starts an agent, which launches a canary through it; it is killed, another one adopts the agent, as
after an exec, and stops it. All of it ends with whoever asked for it, or soon after: no process outlives its store for long.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import Callable, NoReturn, Optional

from agent.errors import AgentError
from agent.host import files, locks, prctl, procfs, signals
from agent.model import AGENT_PROJECT, RestartPolicy
from agent.operations.bootstrap import own_bundle, shim_command
from agent.operations.logs import run_output
from agent.operations.own import describe, read_own_manifest
from agent.shim import machine
from agent.shim.record import Record, Want, read_record, write_want
from agent.store import releases, staging
from agent.store.layout import StoreLayout

#: What the agent of such a proof finds as PROVE in its environment.
ALONE = "alone"
#: The whole of it; a release that takes longer hangs.
_SECONDS = 20.0
#: An agent that nobody stops, since all who would were killed, ends itself.
AGENT_SECONDS = 60
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM)


class Interrupted(Exception):
    """Somebody from outside ended one of the processes, which says nothing of the release."""


def prove_shim(store: StoreLayout) -> None:
    """AgentError when a shim of this release does not do what it is for. Call it in a process with one thread.

    Where somebody killed one of the processes of the proof, this process ends as that one did.
    """
    pid = os.fork()
    if pid == 0:
        _prove_and_exit(store)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        signal.raise_signal(os.WTERMSIG(status))
    if status != 0:
        raise AgentError("self-test: a shim of this release does not do what it is for; the reason is above.")


def _prove_and_exit(store: StoreLayout) -> NoReturn:
    prctl.end_with_parent()
    prctl.set_subreaper()
    path = staging.new_path(store, ".proof")
    code = 1
    try:
        _Stage(path).play()
        code = 0
    except Interrupted:
        code = -1
    except Exception as error:
        sys.stderr.write(f"proof of the shim: {error or type(error).__name__}.\n")
    finally:
        _end_all()
        staging.remove(path)
        if code < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        sys.stderr.flush()
        os._exit(code)


class _Stage:
    """The store of a proof, on which this release of the agent is wanted and nothing runs yet."""

    def __init__(self, root: str) -> None:
        self._store, self._deadline = StoreLayout(root), time.monotonic() + _SECONDS
        self._layout = self._store.project(AGENT_PROJECT)
        self._bundle = own_bundle()

    def play(self) -> None:
        """AssertionError or OSError that says what went wrong."""
        self._build()
        first = self._start()
        self._await(first, lambda record: record.state == machine.READY, "had an agent ready that has launched a canary")
        first.kill()
        first.wait()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:  # it would be the agent's end; what is said there does not matter
            second = self._start(control=theirs.fileno())
            self._await(second, lambda record: (record.shim or {}).get("pid") == second.pid, "took over an agent")
            second.terminate()
            self._await(second, lambda record: record.state == machine.EXITED and second.poll() == 0, "stopped it and was done")

    def _build(self) -> None:
        for directory in (self._store.root, self._store.staging, self._layout.root):
            files.make_directory(directory)
        config = {"store": self._store.root, "listen": "127.0.0.1:1"}  # the release has another address
        files.write_json(self._store.config, config, durable=False)
        manifest = read_own_manifest(self._bundle)
        release = describe(self._store, manifest["version"], "", 0, manifest, "self-test")
        command = (*release.command[:3], self._bundle, *release.command[4:])
        files.make_directory(self._layout.release(release.version))
        sockets, env, once = {"http": "127.0.0.1:0"}, {"PROVE": ALONE}, RestartPolicy("never")
        releases.commit(self._layout, replace(release, command=command, sockets=sockets, env=env, restart=once))
        write_want(self._layout, Want(True, 1, release.version))

    def _start(self, **passed: int) -> subprocess.Popen[bytes]:
        lock = locks.acquire(self._layout.shim_lock)
        assert lock is not None, "the lock of a shim that was killed is still held"
        try:
            passed["lock"] = lock
            return subprocess.Popen(
                shim_command(self._store, self._bundle, **passed), stdin=subprocess.DEVNULL, stdout=sys.stderr, cwd="/", env={},
                pass_fds=tuple(passed.values()), start_new_session=True,
                preexec_fn=prctl.end_with_parent,  # noqa: PLW1509 - there is one thread
            )  # fmt: skip
        finally:
            os.close(lock)

    def _await(self, shim: subprocess.Popen[bytes], is_so: Callable[[Record], bool], what: str) -> None:
        while True:
            code, record = shim.poll(), read_record(self._layout)
            if record is not None and is_so(record):
                return
            if code is not None:
                _blame(code, record)
            if code is not None or time.monotonic() > self._deadline:
                self._repeat_last_words()
                end = f"ended with {code}" if code is not None else f"was given {_SECONDS:g} s"
                raise AssertionError(f"the shim {end} before it {what}")
            time.sleep(0.01)

    def _repeat_last_words(self) -> None:
        """What went wrong in a turn, and what the agent printed: nobody can look for it later."""
        failed = [line["traceback"] for line in files.read_lines(self._layout.events) if line.get("event") == "shim_failed"]
        sys.stderr.write("".join([*failed[-1:], run_output(self._layout, 1).decode(errors="replace")]))


def _blame(code: int, record: Optional[Record]) -> None:
    """Interrupted if the shim, or else its agent, was ended by a signal from outside."""
    cause = (record.outcome.exit_cause if record is not None and record.outcome is not None else None) or {}
    if -code in _FROM_OUTSIDE or cause.get("signal") in _FROM_OUTSIDE:
        raise Interrupted


def _end_all() -> None:
    """SIGKILL for all that is left; waitpid(2)'s ECHILD says that nothing is."""
    while True:
        for process in procfs.descendants([os.getpid()], procfs.processes()):
            signals.send(process.pid, process.start_time, signals.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
            time.sleep(0.01)
            continue
        return
