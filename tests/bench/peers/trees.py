"""runit and s6, from Debian packages: a tree of folders, a supervisor and a logger for each project.

runit is unpacked into a folder. s6 executes its parts by the paths that it was built for, so it has to be installed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from typing import Dict, Iterator, List, Sequence

from agent.host import files
from tests.bench.peers.peer import Peer, below, debian, version_of
from tests.bench.setting import wait_until


class _Tree(Peer):
    """What both have in common: a folder a project, with `run`, `down` and `log/run`."""

    logger = ""

    def configure(self) -> None:
        for project, command in self.projects.items():
            folder = f"{self.base}/scan/{project}"
            files.make_directory(f"{folder}/log", 0o755)
            files.make_directory(f"{self.base}/{project}.d", 0o755)
            self._program(f"{folder}/run", f"exec 2>&1\nexec {shlex.join(command)}\n")
            self._program(f"{folder}/log/run", f"exec {self.logger} {self.base}/{project}.d\n")
            files.write_atomically(f"{folder}/down", b"", durable=False)
            files.write_atomically(f"{self.base}/{project}.d/config", b"s0\n", durable=False)  # svlogd's: no rotation

    def _program(self, path: str, text: str) -> None:
        files.write_atomically(path, f"#!/bin/sh\n{text}".encode(), durable=False, mode=0o755)

    def environment(self) -> Dict[str, str]:
        return {**super().environment(), "PATH": f"{self.base}/usr/bin:{os.defpath}"}

    def run(self, *words: str) -> str:
        ran = subprocess.run(words, capture_output=True, check=False, env=self.environment(), cwd=f"{self.base}/scan")
        if ran.returncode:
            raise RuntimeError(f"{' '.join(words)}: {(ran.stdout + ran.stderr).decode().strip()}")
        return ran.stdout.decode()

    def pids(self) -> List[int]:
        """The scanner, and each project's supervisor and logger."""
        return [*super().pids(), *self._helpers()]

    def _helpers(self) -> Iterator[int]:
        assert self.manager is not None
        for pid in below(self.manager.pid):
            try:
                with open(f"/proc/{pid}/comm", encoding="ascii") as file:
                    if file.read().strip() in ("runsv", "svlogd", "s6-supervise", "s6-log"):
                        yield pid
            except OSError:
                continue

    def log_paths(self, project: str) -> List[str]:
        folder = f"{self.base}/{project}.d"
        names = sorted(name for name in files.names(folder) if name.startswith("@"))
        return [*(f"{folder}/{name}" for name in names), f"{folder}/current"]


class Runit(_Tree):
    name = "runit"
    logger = "svlogd"

    def install(self) -> str:
        debian(self.base, "runit")
        return f"runit {version_of(self.base, 'runit')}"

    def command(self) -> Sequence[str]:
        return [f"{self.base}/usr/bin/runsvdir", f"{self.base}/scan"]

    def stop(self) -> None:
        """SIGHUP ends the supervisors, too (runsvdir(8)); these go on for a moment."""
        assert self.manager is not None
        helpers = list(self._helpers())
        self.manager.send_signal(signal.SIGHUP)
        self.manager.wait(60)
        wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in helpers), 60, 0.01)

    def replace(self) -> None:
        """SIGTERM leaves the supervisors and all that they run; the next runsvdir can't have them and tries for ever."""
        assert self.manager is not None
        self.manager.terminate()
        self.manager.wait(60)
        self.start()

    def is_answering(self) -> bool:
        return all(":" in self.run("sv", "status", f"./{project}") for project in self.projects)

    def up(self, project: str) -> None:
        self.run("sv", "up", f"./{project}")

    def down(self, project: str) -> None:
        self.run("sv", "-w", "12", "down", f"./{project}")

    def status(self, project: str) -> str:
        return self.run("sv", "status", f"./{project}").split(":")[0]


class S6(_Tree):
    name = "s6"
    logger = "s6-log n20 s10000000"

    def install(self) -> str:
        if shutil.which("s6-svscan") is None:
            raise RuntimeError("s6 is not installed (Debian: apt-get install s6)")
        asked = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "s6"], capture_output=True, check=True)
        return f"s6 {asked.stdout.decode()}"

    def command(self) -> Sequence[str]:
        return ["s6-svscan", "-c", "500", f"{self.base}/scan"]

    def replace(self) -> None:
        """SIGABRT ends it and nothing else, as `s6-svscanctl -b` does (s6-svscan(8))."""
        assert self.manager is not None
        self.manager.send_signal(signal.SIGABRT)
        self.manager.wait(60)
        self.start()

    def is_answering(self) -> bool:
        return all(self.run("s6-svstat", f"./{project}") for project in self.projects)

    def up(self, project: str) -> None:
        self.run("s6-svc", "-u", f"./{project}")

    def down(self, project: str) -> None:
        self.run("s6-svc", "-wd", "-T", "12000", "-d", f"./{project}")

    def status(self, project: str) -> str:
        return self.run("s6-svstat", f"./{project}").split()[0]
