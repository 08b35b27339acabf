"""Whether a run is ready: checked again and again by an errand, until it is or its time is over.

A check that fails says what it saw; the last one is what a failed launch shows. One that hangs costs its own time only.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from agent.host import connections, files, procfs, sockets
from agent.model import Readiness, Release
from agent.shim.command import run_to_end
from agent.shim.errand import Tell
from agent.store.layout import ProjectLayout

#: No single check may take longer.
ATTEMPT_SECONDS = 5.0
_BODY_BYTES = 1024
_HEAD_BYTES = 16384
#: File times are those of the kernel's last tick.
_TICK_SECONDS = 0.02
_SO_PASSCRED, _SCM_CREDENTIALS = 16, 2

Failure = Dict[str, Any]
Stamp = Optional[Tuple[int, ...]]


@dataclass(frozen=True)
class Subject:
    """The run whose readiness is asked for. `until` is a monotonic time, `began` one of the wall clock.

    `before` is what was to be seen of the file when the run began; empty where that is not known any more.
    `held` are the addresses whose listening sockets it may share with an old run: there an answer has to be its own.
    """

    release: Release
    layout: ProjectLayout
    pid: int
    began: float
    until: float
    held: Tuple[str, ...] = ()
    notify: Optional[socket.socket] = None
    before: Tuple[Stamp, ...] = ()


def prove(subject: Subject, tell: Tell) -> None:
    """Check until it is ready (told as `{"ready": True}`); what failed last is told as `{"failure": …}`."""
    readiness = subject.release.readiness
    assert readiness is not None
    told: Failure = {}
    while True:
        failure = _check(subject, readiness)
        if failure is None:
            tell({"ready": True})
            return
        if "said" in told:
            failure.setdefault("said", told["said"])
        if failure != told:
            told = failure
            tell({"failure": failure})
        if time.monotonic() + readiness.interval_seconds >= subject.until:
            return
        time.sleep(readiness.interval_seconds)


def _check(subject: Subject, readiness: Readiness) -> Optional[Failure]:
    seconds = max(0.01, min(ATTEMPT_SECONDS, subject.until - time.monotonic()))
    try:
        failure = _CHECKS[readiness.kind](subject, readiness.target, seconds)
    except socket.timeout:
        failure = {"error": f"no answer within {seconds:.1f} s"}
    except (OSError, ValueError) as error:
        failure = {"error": str(getattr(error, "strerror", None) or error)}
    return None if failure is None else {"check": _described(readiness), **failure}


def _described(readiness: Readiness) -> str:
    before = {"http": "GET ", "tcp": "connect to ", "command": "", "file": "file ", "notify": "READY=1"}
    return before[readiness.kind] + readiness.target


def _http(subject: Subject, url: str, seconds: float) -> Optional[Failure]:
    """Ready by any status of 200 to 399."""
    from urllib.parse import urlsplit  # here, in a process of moments: a shim does without

    parts = urlsplit(url)
    is_tls = parts.scheme == "https"
    host, port = str(parts.hostname), parts.port or (443 if is_tls else 80)
    with _connect(subject, (host, port), seconds) as connection:
        if is_tls:
            import ssl

            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = context.wrap_socket(connection, server_hostname=host)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        head = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: ant-host-agent\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        answer = _read_answer(connection, seconds)
    line, _, rest = answer.partition(b"\r\n")
    words = line.split(b" ", 2)
    if not line.startswith(b"HTTP/") or len(words) < 2 or not words[1].isdigit():
        return {"error": "what answers does not speak HTTP", "body": answer[:_BODY_BYTES].decode(errors="replace")}
    status = int(words[1])
    if 200 <= status < 400:
        return None
    return {"status": status, "body": rest.partition(b"\r\n\r\n")[2][:_BODY_BYTES].decode(errors="replace")}


def _read_answer(connection: socket.socket, seconds: float) -> bytes:
    """The head and the begin of the body; all of what comes until the answer ends, is long enough, or late."""
    until, answer = time.monotonic() + seconds, b""
    while len(answer) < _HEAD_BYTES and time.monotonic() < until:
        try:
            data = connection.recv(_HEAD_BYTES)
        except socket.timeout:
            break
        answer += data
        if not data or len(answer.partition(b"\r\n\r\n")[2]) >= _BODY_BYTES:
            break
    if not answer:
        raise ConnectionError("the connection was closed without an answer" if time.monotonic() < until else "no answer")
    return answer


def _tcp(subject: Subject, address: str, seconds: float) -> Optional[Failure]:
    _connect(subject, sockets.parse_address(address), seconds).close()
    return None


def _connect(subject: Subject, address: Tuple[str, int], seconds: float) -> socket.socket:
    """A connection; where the listening socket is shared with an old run, one that this run has accepted."""
    until = time.monotonic() + seconds
    connection = socket.create_connection(address, seconds)
    if not _is_held(subject, connection):
        return connection
    try:
        while True:
            inode = connections.accepted_inode(connection)
            acceptor = connections.holder(inode, (process.pid for process in _own(subject))) if inode else None
            if acceptor is not None:
                return connection
            if inode and connections.holder(inode, (process.pid for process in procfs.processes())):
                raise ConnectionError("what answers is the old release, not yet this one")
            if time.monotonic() >= until:
                raise socket.timeout()
            time.sleep(0.005)
    except BaseException:
        connection.close()
        raise


def _is_held(subject: Subject, connection: socket.socket) -> bool:
    """Whether the peer is one of the project's sockets; one bound to every address is told by its port."""
    port = str(connection.getpeername()[1])
    return any(not address.startswith("unix:") and address.rpartition(":")[2] == port for address in subject.held)


def _own(subject: Subject) -> Tuple[procfs.Process, ...]:
    alive = procfs.processes()
    leader = tuple(process for process in alive if process.pid == subject.pid)
    return (*leader, *procfs.descendants([subject.pid], alive))


def _command(subject: Subject, command: str, seconds: float) -> Optional[Failure]:
    ran = run_to_end(subject.release, subject.layout, ("/bin/sh", "-c", command), seconds)
    if str(ran.cause) == "exited with code 0":
        return None
    error = f"was not done within {seconds:.1f} s" if ran.cause is None else str(ran.cause)
    return {"error": error, "body": ran.output[-_BODY_BYTES:].decode(errors="replace")}


def _file(subject: Subject, _path: str, _: float) -> Optional[Failure]:
    """A file of an earlier run does not count. Only after an errand was killed the clock tells that, which may have jumped."""
    now = file_stamp(subject.release, subject.layout)
    if now is None:
        return {"error": "it is not there yet"}
    is_new = (now,) != subject.before if subject.before else now[1] / 1e9 >= subject.began - _TICK_SECONDS
    return None if is_new else {"error": "it is there since before this run"}


def file_stamp(release: Release, layout: ProjectLayout) -> Stamp:
    """What is to be seen of such a readiness's file; a relative path is in the release. OSError if nothing can be."""
    return files.stamp(os.path.join(layout.release(release.version), release.readiness.target if release.readiness else ""))


def sentence(failure: Failure) -> str:
    """What a failed check saw, for a person."""
    if not failure:
        return "no check has come to an end"
    if "error" in failure:
        return f"{failure['check']}: {failure['error']}"
    return f"{failure['check']} answered {failure['status']}"


def notify_name(layout: ProjectLayout, run: int) -> str:
    """The abstract address of one run's NOTIFY_SOCKET: no path, so no directory has to be open to the project."""
    return f"ant-host-agent/{os.stat(layout.root).st_ino:x}/{layout.project}/{run}"


def open_notify(name: str) -> socket.socket:
    """The socket that READY=1 is sent to. OSError if it can't be had."""
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, _SO_PASSCRED, 1)
    receiver.bind(b"\0" + name.encode())
    return receiver


def _notify(subject: Subject, _: str, seconds: float) -> Optional[Failure]:
    """sd_notify(3): lines NAME=value in datagrams, of the user that the project runs as."""
    assert subject.notify is not None
    failure: Failure = {"error": "it was not sent yet"}
    subject.notify.settimeout(seconds)
    try:
        while True:
            data, ancillary, _flags, _sender = subject.notify.recvmsg(4096, socket.CMSG_SPACE(12))
            lines: Dict[str, str] = dict(line.partition("=")[::2] for line in data.decode(errors="replace").splitlines())
            if _may_speak(subject, ancillary):
                if lines.get("READY") == "1":
                    return None
                if "STATUS" in lines:
                    failure["said"] = lines["STATUS"][:_BODY_BYTES]
    except socket.timeout:
        return failure


def _may_speak(subject: Subject, ancillary: Any) -> bool:
    users = [struct.unpack("=iii", data)[1] for _, kind, data in ancillary if kind == _SCM_CREDENTIALS]
    try:
        return bool(users) and users[0] in (0, os.stat(f"/proc/{subject.pid}").st_uid)
    except FileNotFoundError:
        return False


_CHECKS: Mapping[str, Callable[[Subject, str, float], Optional[Failure]]] = {
    "http": _http, "tcp": _tcp, "command": _command, "file": _file, "notify": _notify,
}  # fmt: skip
