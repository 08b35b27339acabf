"""This agent, asked as the peers are. A start is a launch: the artifact comes over HTTP with it and is unpacked."""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
import time
import zipfile
from typing import Dict, List, Optional, Sequence

from tests.bench.peers.peer import Peer, below
from tests.bench.setting import Setting, checked, script, wait_until
from tests.support import bundles, processes
from tests.support.agent import AGENT, AgentHost


class Ours(Peer):
    name = "ant-host-agent"

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self._setting = setting
        self._host: Optional[AgentHost] = None
        self._artifacts: Dict[str, str] = {}
        self._calls: List[threading.Thread] = []

    @property
    def host(self) -> AgentHost:
        assert self._host is not None
        return self._host

    def install(self) -> str:
        with zipfile.ZipFile(self._setting.pyz) as archive:
            assert archive.testzip() is None
        return "ant-host-agent, this build"

    def configure(self) -> None:
        self._host = self._setting.host()
        for project, command in self.projects.items():
            self._artifacts[project] = os.path.join(self.base, f"{project}.tar.gz")
            logs = {"segment_bytes": 1 << 30}  # as large as those of the others, which rotate nothing
            os.rename(script(self.host, f"exec {shlex.join(command)}", logs=logs), self._artifacts[project])

    def command(self) -> Sequence[str]:
        return self.host.serve_command()

    def start(self) -> None:
        self.host.start()
        self.manager = self.host.process
        wait_until(self.answers, 30, 0.001)

    def is_answering(self) -> bool:
        return self.host.request("GET", "/project").status == 200

    def up(self, project: str) -> None:
        """The call is left to a thread: it answers once the project has been alive for a second."""
        call = threading.Thread(target=self._launch, args=(project,))
        call.start()
        self._calls.append(call)

    def _launch(self, project: str) -> None:
        while self.host.launch(project, self._artifacts[project]).status == 503:
            time.sleep(0.2)  # as many as there is room for are under way

    def down(self, project: str) -> None:
        self.settle()
        checked(self.host.kill(project), 200)

    def status(self, project: str) -> str:
        return str(checked(self.host.request("GET", f"/project/{project}"), 200)["state"])

    def pids(self) -> List[int]:
        """The agent with its own shim and its unpacker, and the projects' shims."""
        found = [self.host.shim_pid(AGENT), self.host.agent_pid, *below(self.host.agent_pid)]
        for project in self.host.projects():
            shim = self.host.record(project)["shim"] if project != AGENT else None
            if shim is not None and processes.look(shim["pid"]) is not None:
                found.append(shim["pid"])
        return found

    def log_paths(self, project: str) -> List[str]:
        folder = self.host.path("projects", project, "logs")
        with contextlib.suppress(FileNotFoundError):
            return [f"{folder}/{name}" for name in sorted(os.listdir(folder)) if name.startswith("output-")]
        return []

    def settle(self) -> None:
        for call in self._calls:
            call.join()
        self._calls.clear()

    def crash(self) -> None:
        self.host.crash_agent()

    def is_back(self) -> bool:
        return self.answers()

    def come_back(self) -> None:
        """It does so by itself."""
        wait_until(self.answers, 60, 0.001)

    def stop(self) -> None:
        self.host.stop()

    def replace(self) -> None:
        """A launch, as of any project: the same sources under another version."""
        checked(self.host.launch(AGENT, bundles.release(self._setting.pyz, self.base, "successor")), 201)

    def close(self) -> None:
        self.settle()
        if self._host is not None:
            self._host.close()
        super().close()
