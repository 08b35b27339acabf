"""Unpacking in processes of their own, confined before they look at a byte that a stranger sent.

The agent has many threads, and a fork of a process with threads may only do what a signal handler may. So one
process is forked while the agent has no thread yet, and forks a worker for each artifact. It ends with the agent, whose end of
the socketpair ends; one that was killed is replaced by another that is executed, which takes a tenth of a second. A worker
can write below its directory and read its archive, nothing else, whoever the agent runs as.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from typing import Any, Callable, Dict, List, NoReturn, Optional, Tuple

from agent.errors import AgentError, ArtifactFault, Busy, from_problem
from agent.host import prctl, signals
from agent.host.confinement import confine
from agent.store import artifacts
from agent.store.limits import DEFAULT, MIB, Limits

#: Beyond what the process has when it is forked: xz's dictionary and a zip's central directory fit.
MEMORY_BYTES = 256 * MIB
_MESSAGE_BYTES = 16 * 1024
_ONE_DESCRIPTOR = socket.CMSG_SPACE(4)
#: More than an agent has open at its start.
_DESCRIPTORS = 1024
#: An archive that takes too long is given up by whoever unpacks it; by the kernel a little later, by us later still.
_SLACK_SECONDS = 10
#: The next worker is forked after so long without a message: whoever asked for the last one is starting what it unpacked.
_IDLE_MILLISECONDS = 50

Extract = Callable[[str, str], artifacts.Kind]


class Unpacker:
    """The agent's end of the conversation. Every thread may use it."""

    def __init__(self, conversation: socket.socket, pid: int, limits: Limits = DEFAULT) -> None:
        self._socket = conversation
        self._pid = pid
        self._seconds = limits.seconds + 2 * _SLACK_SECONDS
        self._sending = threading.Lock()
        self._process: Optional[subprocess.Popen[bytes]] = None

    @classmethod
    def start(cls, limits: Limits = DEFAULT, extract: Extract = artifacts.extract) -> Unpacker:
        """Fork the process that forks the workers; to be called before the first thread is started."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        gc.collect()
        gc.freeze()  # both share these pages for as long as neither writes to them, nor do the workers
        pid = os.fork()
        if pid == 0:
            try:
                gc.enable()
                prctl.end_with_parent()
                _keep_only(theirs.fileno())
                _Server(theirs, limits, extract).serve()
            finally:
                os._exit(1)
        theirs.close()
        return cls(ours, pid, limits)

    def close(self) -> None:
        """End the process that forks workers, and with it the workers; it is gone when this returns."""
        self._socket.close()
        if self._process is not None:
            self._process.wait()
        else:
            os.waitpid(self._pid, 0)

    def extract(self, path: str, directory: str) -> artifacts.Kind:
        """As `artifacts.extract`, which a worker does; AgentError when the worker itself came to an end."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                self._send(json.dumps([path, directory]).encode(), theirs.fileno())
            try:
                ours.settimeout(self._seconds)
                with ours.makefile("rb") as replies:
                    answer = replies.readline()  # the worker's, or the status of one that ended without
            except socket.timeout:
                raise AgentError("The process that unpacks does not end.", "Is the disk stuck? Its state is D then.") from None
        if not answer:
            raise Busy("The process that unpacks was killed in the middle of it.", "Send the call again.")
        found = json.loads(answer)
        return _unanswered(found) if isinstance(found, int) else _kind(found)

    def _send(self, message: bytes, reply: int) -> None:
        with self._sending:
            try:
                socket.send_fds(self._socket, [message], [reply])
            except (BrokenPipeError, ConnectionResetError):
                self._replace()
                socket.send_fds(self._socket, [message], [reply])

    def _replace(self) -> None:
        """Execute another one."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-I", "-S", sys.argv[0], "unpacker", str(theirs.fileno())]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env={}, cwd="/", pass_fds=[theirs.fileno()])
        self.close()
        self._socket, self._process = ours, process


def main(arguments: List[str]) -> NoReturn:
    """`unpacker FD`, executed by an agent that lost the one it had forked."""
    _Server(socket.socket(fileno=int(arguments[0])), DEFAULT, artifacts.extract).serve()


def _kind(answer: Dict[str, Any]) -> artifacts.Kind:
    """What a worker found, or what it raised."""
    if "errno" in answer:
        raise OSError(answer["errno"], os.strerror(answer["errno"]))
    if "problem" in answer:
        raise from_problem(answer["problem"])
    return artifacts.Kind(answer["kind"])


def _unanswered(status: int) -> NoReturn:
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if number in (signal.SIGALRM, signal.SIGXCPU):
        raise ArtifactFault("The archive takes too long to unpack.", "Ship less in the artifact, or fewer files.")
    if number == signal.SIGKILL:
        raise Busy("The process that unpacked the artifact was killed, or the host is out of memory.", "Send the call again.")
    how = f"was ended by {signal.Signals(number).name}" if number else f"exited with code {os.WEXITSTATUS(status)}"
    raise AgentError(
        f"The process that unpacked the artifact {how}.",
        "Send it again; if that is no help, the logs of project ant-host-agent on the host tell more.",
    )


class _Server:
    """Hands each message to a worker, and puts its wait status behind its answer, if any, when it has ended.

    The worker was forked beforehand, and the next one is a little later: a launch does not wait for that, nor has it beside it.
    """

    def __init__(self, conversation: socket.socket, limits: Limits, extract: Extract) -> None:
        self._socket = conversation
        self._limits = limits
        self._extract = extract
        self._replies: Dict[int, int] = {}
        #: The worker that waits for its message: pid and the way to it.
        self._next: Optional[Tuple[int, socket.socket]] = None
        self._is_to_fork = False

    def serve(self) -> NoReturn:
        """Until the agent ends. A signal to all of the agent's processes is for the agent: it drains, and may unpack yet."""
        prctl.set_title(b"ant-host-agent unpacker")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        wake = signals.listen((signal.SIGCHLD,), lambda *_: None)
        poll = select.poll()
        for fd in (self._socket.fileno(), wake):
            poll.register(fd, select.POLLIN)
        while True:
            ready = poll.poll(_IDLE_MILLISECONDS if self._is_to_fork else None)
            for fd, _ in ready:
                if fd == wake:
                    os.read(wake, 4096)
                else:
                    self._take()
            self._reap()
            if not ready:
                self._is_to_fork = False
                with contextlib.suppress(OSError):  # then the next message will tell
                    self._next = self._fork()

    def _take(self) -> None:
        data, reply = _receive(self._socket)
        if not data:
            os._exit(0)
        self._is_to_fork = True
        try:
            self._replies[self._hand_over(data, reply)] = reply
        except OSError as error:
            _answer(reply, {"errno": error.errno})
            _end(reply, 0)

    def _hand_over(self, data: bytes, reply: int) -> int:
        """The pid of the worker that has it now. OSError when there can be none."""
        worker, self._next = self._next, None
        if worker is not None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # somebody killed it
                return _send(worker, data, reply)
        return _send(self._fork(), data, reply)

    def _fork(self) -> Tuple[int, socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            pid = os.fork()
            if pid == 0:
                _work(theirs, self._extract, self._limits)
        return pid, ours

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid in self._replies:
                    _end(self._replies.pop(pid), status)


def _receive(conversation: socket.socket) -> Tuple[bytes, int]:
    data, passed, _, _ = conversation.recvmsg(_MESSAGE_BYTES, _ONE_DESCRIPTOR, socket.MSG_CMSG_CLOEXEC)
    descriptors: List[int] = [int.from_bytes(found[:4], sys.byteorder) for _, _, found in passed]
    return data, descriptors[0] if descriptors else -1


def _send(worker: Tuple[int, socket.socket], data: bytes, reply: int) -> int:
    pid, conversation = worker
    with conversation:
        socket.send_fds(conversation, [data], [reply])
    return pid


def _work(conversation: socket.socket, extract: Extract, limits: Limits) -> NoReturn:
    """In a forked child: wait for a message, unpack, answer, end."""
    try:
        prctl.end_with_parent()
        signal.set_wakeup_fd(-1)
        _keep_only(conversation.fileno())  # the agent waits for the end of each reply
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        data, reply = _receive(conversation)
        if not data:
            os._exit(0)
        conversation.close()
        path, directory = json.loads(data)
        signal.alarm(int(limits.seconds) + _SLACK_SECONDS)
        confine(directory, path, MEMORY_BYTES, limits.member_bytes, int(limits.seconds) + _SLACK_SECONDS)
        _answer(reply, {"kind": extract(path, directory).value})
    except AgentError as error:
        _answer(reply, {"problem": error.to_problem()})
    except MemoryError:
        fault = ArtifactFault(f"Unpacking the archive takes more than {MEMORY_BYTES} bytes of memory.", "Pack it with less.")
        _answer(reply, {"problem": fault.to_problem()})
    except OSError as error:
        _answer(reply, {"errno": error.errno})
    except Exception as error:
        os.write(2, _described(error).encode())
        os._exit(1)
    finally:
        os._exit(0)


def _described(error: Exception) -> str:
    """A bug of ours in one line: the files that a traceback quotes can't be read any more."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}" if at is not None else "?"
    return f"unpacking: {type(error).__name__}: {error} in {where}\n"


def _keep_only(fd: int) -> None:
    os.closerange(3, fd)
    os.closerange(fd + 1, _DESCRIPTORS)


def _answer(reply: int, document: Dict[str, Any]) -> None:
    os.write(reply, json.dumps(document).encode() + b"\n")


def _end(reply: int, status: int) -> None:
    try:
        os.write(reply, b"%d\n" % status)
    except OSError:  # nobody waits for it any more
        pass
    os.close(reply)
