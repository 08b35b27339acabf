"""circus, from PyPI: spoken to through its own client, by a driver in its own environment."""

from __future__ import annotations

import json
import select
import shlex
import subprocess
import sys
from typing import Any, Optional, Sequence

from agent.host import files
from tests.bench.peers.peer import Peer

_ANSWER_SECONDS = 60.0
_DRIVER = """
import json, sys
from circus.client import CircusClient
client = CircusClient(endpoint=sys.argv[1], timeout=60)
for line in sys.stdin:
    command, properties = json.loads(line)
    try:
        answer = client.send_message(command, **properties)
    except Exception as error:
        answer = {'error': str(error)}
    print(json.dumps(answer), flush=True)
"""


class Driver:
    """A process that takes a JSON line and answers with one."""

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)

    def ask(self, question: object) -> Any:
        """RuntimeError when it ended, or has no answer: its manager may be gone."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise RuntimeError("the driver ended") from None
        is_answered = select.select([self._process.stdout], [], [], _ANSWER_SECONDS)[0]
        answer = self._process.stdout.readline() if is_answered else b""
        if not answer:
            raise RuntimeError("the driver ended")
        return json.loads(answer)

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


class Circus(Peer):
    """Defaults, but for what makes it comparable: no second of warm-up, output into a file."""

    name = "circus"
    _driver: Optional[Driver] = None

    def install(self) -> str:
        subprocess.run([sys.executable, "-m", "venv", f"{self.base}/venv"], check=True)
        subprocess.run([f"{self.base}/venv/bin/pip", "install", "-q", "circus"], check=True, capture_output=True)
        asked = subprocess.run([f"{self.base}/venv/bin/circusd", "--version"], capture_output=True, check=True)
        return f"circus {asked.stdout.decode().strip()}"

    @property
    def _endpoint(self) -> str:
        return f"ipc://{self.base}/c"

    def configure(self) -> None:
        parts = [f"[circus]\nendpoint = {self._endpoint}\npubsub_endpoint = ipc://{self.base}/p\nwarmup_delay = 0\n"]
        for project, command in self.projects.items():
            program = f"{self.base}/{project}.run"  # its own quoting knows no newlines
            files.write_atomically(program, f"#!/bin/sh\nexec {shlex.join(command)}\n".encode(), durable=False, mode=0o755)
            parts.append(
                f"[watcher:{project}]\ncmd = {program}\nautostart = false\nwarmup_delay = 0\nstdout_stream.class = FileStream\n"
                f"stdout_stream.filename = {self.base}/{project}.log\nstdout_stream.max_bytes = 0\n"
            )
        files.write_atomically(f"{self.base}/conf", "".join(parts).encode(), durable=False)

    def command(self) -> Sequence[str]:
        return [f"{self.base}/venv/bin/circusd", f"{self.base}/conf"]

    def _ask(self, command: str, **properties: object) -> Any:
        if self._driver is None:
            self._driver = Driver([f"{self.base}/venv/bin/python", "-c", _DRIVER, self._endpoint])
        return self._driver.ask([command, properties])

    def is_answering(self) -> bool:
        return bool(self._ask("status").get("status") == "ok")

    def up(self, project: str) -> None:
        self._ask("start", name=project, waiting=True)

    def down(self, project: str) -> None:
        self._ask("stop", name=project, waiting=True)

    def status(self, project: str) -> str:
        return str(self._ask("status", name=project)["status"])

    def close(self) -> None:
        if self._driver is not None:
            self._driver.close()
        super().close()
