"""The project's process tree: spawn it, list it, end it.

The child is forked behind a gate: it executes nothing before the shim has recorded its pid and
start time, so a shim that dies at any instant leaves a child that is on record, or none.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from typing import Callable, List, Mapping, NoReturn, Optional, Sequence, Tuple

from agent.host import cgroups, procfs, signals
from agent.host.procfs import Process
from agent.host.sockets import FIRST_FD, listen_environment
from agent.model import ExitCause, Exited, FailedToStart, Signaled
from agent.shim.rights import UNCHANGED, Rights

#: Descriptors of ours in a forked child live from here on, so that 3, 4, … are free for the project's sockets.
_HIGH_FD = 200
#: ioctl(2) PIDFD_GET_INFO, Linux 6.15: _IOWR(0xFF, 11, struct pidfd_info of 64 bytes), with the exit status asked for.
_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO_EXIT = 8


class Spawned:
    """A forked child that waits behind its gate, in its control `group` already if there is one.

    `release()` lets it execute, or tells why it could not.
    """

    def __init__(self, pid: int, start_time: int, group: Optional[str], gate: int, verdict: int) -> None:
        self.pid = pid
        self.start_time = start_time
        self.group = group
        self._gate = gate
        self._verdict = verdict

    def release(self) -> Optional[FailedToStart]:
        """Open the gate; None once the program is executed. Blocks for as long as exec does."""
        with contextlib.suppress(BrokenPipeError):  # it is dead already, and the verdict says why
            os.write(self._gate, b"\n")
        os.close(self._gate)
        with os.fdopen(self._verdict, "rb") as verdict:
            reason = verdict.read()
        return FailedToStart(reason.decode(errors="replace")) if reason else None


def spawn(
    command: Sequence[str], directory: str, environ: Mapping[str, str], output: int,
    sockets: Mapping[str, int], rights: Rights = UNCHANGED, errors: Optional[int] = None,
) -> Spawned:  # fmt: skip
    """Fork a child in its own session with descriptors 0, 1, 2 and its sockets only, and these rights. OSError if fork fails.

    Its standard error goes to `errors`, else where its output goes.
    """
    gate_reader, gate = os.pipe()
    verdict, verdict_writer = os.pipe()
    try:
        pid, is_inside = cgroups.fork(rights.group)
    except OSError:
        for fd in (gate_reader, gate, verdict, verdict_writer):
            os.close(fd)
        raise
    if pid == 0:
        os.close(gate)  # or the end of the shim would not end our wait for it
        outputs = (output, output if errors is None else errors)
        _become(command, directory, environ, outputs, sockets, lambda: rights.take(is_inside), gate_reader, verdict_writer)
    os.close(gate_reader)
    os.close(verdict_writer)
    # the gate keeps it alive, so it has a start time
    group = rights.group if is_inside or rights.is_limited else None
    return Spawned(pid, procfs.start_time(pid) or 0, group, gate, verdict)


def _become(
    command: Sequence[str], directory: str, environ: Mapping[str, str], outputs: Tuple[int, int],
    sockets: Mapping[str, int], take_rights: Callable[[], None], gate: int, verdict: int,
) -> NoReturn:  # fmt: skip
    try:
        verdict = fcntl.fcntl(verdict, fcntl.F_DUPFD_CLOEXEC, _HIGH_FD)
        os.setsid()
        os.umask(0o022)
        signals.restore_defaults()
        held = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH_FD) for fd in sockets.values()]
        if not os.read(gate, 1):
            os._exit(0)  # the shim died before it could record us
        take_rights()
        os.chdir(directory)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        for number, fd in enumerate(outputs, 1):
            os.dup2(fd, number)
        for index, fd in enumerate(held):
            os.dup2(fd, FIRST_FD + index)
        os.execve(command[0], list(command), {**environ, **listen_environment(tuple(sockets))})
    except OSError as error:
        os.write(verdict, _exec_failure(error, command[0], directory).encode())
    finally:
        os._exit(127)


def _exec_failure(error: OSError, program: str, directory: str) -> str:
    if error.errno == errno.ENOENT and error.filename == program and os.path.exists(program):
        return f"{program}: its interpreter does not exist on this host"
    if error.errno == errno.ENOEXEC:
        return f"{program}: not a program for this host, or a script without a '#!' line"
    return f"{program} in {directory}: {error.strerror}"


def cause_of(status: int) -> ExitCause:
    """The exit cause in a wait status (wait(2))."""
    if os.WIFSIGNALED(status):
        return Signaled(os.WTERMSIG(status), os.WCOREDUMP(status))
    return Exited(os.WEXITSTATUS(status))


def status_by_pidfd(pidfd: int) -> Optional[int]:
    """The wait status of a process that somebody else reaped; None where the kernel can't say (before 6.15) or not yet."""
    info = bytearray(struct.pack("@Q", _PIDFD_INFO_EXIT).ljust(64, b"\0"))
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError:
        return None
    mask, status = struct.unpack_from("@Q52xi", info)
    return status if mask & _PIDFD_INFO_EXIT else None


class Tree:
    """Every process of one project.

    Everything below `root` is the project's, and `resident`, the shim itself, never is. After an adoption the tree is
    `scattered`: what was orphaned while no shim lived hangs elsewhere, and is found by control
    group, or by the marker in its environment. A server may have written its title over that (nginx, redis, PostgreSQL), so
    what is `known` counts with all that is below it, too. What hangs below `spared` is no part of it.
    """

    def __init__(
        self, root: Optional[int], resident: int, marker: bytes, cgroup: Optional[str], scattered: bool,
        spared: Sequence[Optional[int]] = (), known: Sequence[int] = (),
    ) -> None:  # fmt: skip
        self._roots = (*known, *(() if root is None else (root,)))
        self._ours = (resident, os.getpid())
        self._marker = marker
        self._cgroup = cgroup
        self._scattered = scattered
        self._spared = [pid for pid in spared if pid is not None]

    def members(self) -> List[Process]:
        """The live processes, parents first."""
        alive = procfs.processes()
        by_pid = {process.pid: process for process in alive}
        own = {process.pid for process in alive if process.pid in self._roots}
        if self._cgroup is not None:
            own.update(pid for pid in cgroups.members(self._cgroup) if pid in by_pid)
        if self._scattered:
            own.update(process.pid for process in alive if procfs.has_environment(process.pid, self._marker))
        found = {pid: by_pid[pid] for pid in sorted(own)}
        for process in procfs.descendants([*self._roots, *own], alive):
            found[process.pid] = process
        others = {*self._ours, *self._spared, *(process.pid for process in procfs.descendants(self._spared, alive))}
        return [process for process in found.values() if process.pid not in others]

    def end_now(self) -> List[Process]:
        """Freeze, then SIGKILL everything: nobody forks behind our back. What was alive before is returned."""
        members = self.members()
        for number in (signals.SIGSTOP, signals.SIGKILL):
            for process in members:
                signals.send(process.pid, process.start_time, number)
        if self._cgroup is not None:
            cgroups.kill(self._cgroup)
        return members
