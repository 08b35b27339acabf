"""supervisord, from PyPI: spoken to as its own supervisorctl does, XML-RPC over a Unix socket."""

from __future__ import annotations

import http.client
import os
import shlex
import socket
import subprocess
import sys
import xmlrpc.client
from typing import Any, Sequence

from tests.bench.peers.peer import Peer


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return _Connection(self._path)


class Supervisord(Peer):
    """Defaults, but for what makes it comparable: no rotation, and no second of waiting in a start."""

    name = "supervisord"

    def install(self) -> str:
        subprocess.run([sys.executable, "-m", "venv", f"{self.base}/venv"], check=True)
        subprocess.run([f"{self.base}/venv/bin/pip", "install", "-q", "supervisor"], check=True, capture_output=True)
        asked = subprocess.run([f"{self.base}/venv/bin/supervisord", "--version"], capture_output=True, check=True)
        return f"supervisord {asked.stdout.decode().strip()}"

    def configure(self) -> None:
        parts = [
            (
                f"[unix_http_server]\nfile={self.base}/s\n[supervisord]\nnodaemon=true\nlogfile={self.base}/d.log\n"
                f"pidfile={self.base}/pid\nchildlogdir={self.base}\n"
                "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
            )
        ]
        for project, command in self.projects.items():
            program = f"{self.base}/{project}.run"  # its own quoting knows no newlines
            with open(program, "w", encoding="utf-8") as file:
                file.write(f"#!/bin/sh\nexec {shlex.join(command)}\n")
            os.chmod(program, 0o755)
            parts.append(
                f"[program:{project}]\ncommand={program}\nautostart=false\nautorestart=true\nstartsecs=0\n"
                f"redirect_stderr=true\nstdout_logfile={self.base}/{project}.log\nstdout_logfile_maxbytes=0\n"
            )
        with open(f"{self.base}/conf", "w", encoding="utf-8") as file:
            file.write("".join(parts))

    def command(self) -> Sequence[str]:
        return [f"{self.base}/venv/bin/supervisord", "-c", f"{self.base}/conf"]

    def _call(self) -> Any:
        return xmlrpc.client.ServerProxy("http://localhost", transport=_Transport(f"{self.base}/s")).supervisor

    def is_answering(self) -> bool:
        try:
            return bool(self._call().getAllProcessInfo())
        except (xmlrpc.client.Error, http.client.HTTPException) as error:
            raise RuntimeError(str(error)) from error

    def up(self, project: str) -> None:
        self._call().startProcess(project, False)

    def down(self, project: str) -> None:
        self._call().stopProcess(project, True)

    def status(self, project: str) -> str:
        return str(self._call().getProcessInfo(project)["statename"])
