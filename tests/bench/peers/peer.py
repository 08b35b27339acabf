"""What is asked of every manager, whatever it calls it."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import signal
import subprocess
import tempfile
from typing import Dict, Iterator, List, Optional, Sequence

from tests.bench import kernel
from tests.bench.setting import wait_until
from tests.support import processes

START_SECONDS = 30.0


class Peer:
    """One manager in a folder of its own. Subclasses say how it is installed, configured and spoken to."""

    name = ""

    def __init__(self) -> None:
        self.base = tempfile.mkdtemp(prefix="ant-peer-")
        self.projects: Dict[str, List[str]] = {}
        self.manager: Optional[subprocess.Popen[bytes]] = None

    # -- for each peer -------------------------------------------------------------------------------------------

    def install(self) -> str:
        """Once; what it is, with its version. RuntimeError or OSError when it can't be had here."""
        raise NotImplementedError

    def configure(self) -> None:
        """Write down `self.projects`, none of which starts by itself."""

    def command(self) -> Sequence[str]:
        """What starts the manager in the foreground."""
        raise NotImplementedError

    def is_answering(self) -> bool:
        """Whether it tells the status of projects."""
        raise NotImplementedError

    def up(self, project: str) -> None:
        raise NotImplementedError

    def down(self, project: str) -> None:
        """The stop call, until it returns."""
        raise NotImplementedError

    def status(self, project: str) -> str:
        raise NotImplementedError

    def pids(self) -> List[int]:
        """The manager and all that it needs for the projects, without these."""
        assert self.manager is not None
        return [self.manager.pid]

    def log_paths(self, project: str) -> List[str]:
        """Where the output lies, oldest first."""
        return [f"{self.base}/{project}.log"]

    # -- for all -------------------------------------------------------------------------------------------------

    def environment(self) -> Dict[str, str]:
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": self.base, "LANG": "C.UTF-8"}

    def start(self) -> None:
        """Start the manager; returns once it tells a status."""
        with open(f"{self.base}/manager.log", "ab") as output:
            self.manager = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self.environment(), cwd=self.base,
                start_new_session=True,
            )  # fmt: skip
        wait_until(self.answers, START_SECONDS, 0.001)

    def answers(self) -> bool:
        """Whether it does now."""
        with contextlib.suppress(OSError, RuntimeError):
            return self.is_answering()
        return False

    def settle(self) -> None:
        """Wait for calls that are still under way."""

    def is_back(self) -> bool:
        """Whether, after `crash`, there is a manager again."""
        return self.manager is not None and self.manager.poll() is None

    def crash(self) -> None:
        """kill -9 of the manager; returns once it is gone."""
        assert self.manager is not None
        self.manager.kill()
        self.manager.wait()

    def come_back(self) -> None:
        """After `crash`: what an init system does for it."""
        self.start()

    def stop(self) -> None:
        """End the manager, as its manual has it."""
        assert self.manager is not None
        self.manager.terminate()
        self.manager.wait(60)

    def replace(self) -> None:
        """Upgrade the manager, as its manual has it: stop it, start the other one."""
        self.stop()
        self.start()

    def output(self, project: str) -> bytes:
        data = []
        for path in self.log_paths(project):
            with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
                data.append(file.read())
        return b"".join(data)

    def output_bytes(self, project: str) -> int:
        total = 0
        for path in self.log_paths(project):
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(path).st_size
        return total

    def pss_kib(self) -> float:
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                total += kernel.pss_bytes(pid)
        return total / 1024

    def close(self) -> None:
        """End everything that was started from the folder, and remove it."""
        if self.manager is not None and self.manager.poll() is None:
            self.manager.send_signal(signal.SIGKILL)
            self.manager.wait()
        processes.kill_all(processes.mentioning(self.base))
        shutil.rmtree(self.base, ignore_errors=True)


def debian(folder: str, *packages: str) -> None:
    """Unpack Debian packages below a folder, without installing them. RuntimeError where they can't be had."""
    ran = subprocess.run(["apt-get", "download", *packages], cwd=folder, capture_output=True, check=False)
    if ran.returncode:
        raise RuntimeError(ran.stderr.decode().strip().splitlines()[-1])
    for path in glob.glob(f"{folder}/*.deb"):
        subprocess.run(["dpkg", "-x", path, folder], check=True)


def version_of(folder: str, package: str) -> str:
    """The version in the name of a downloaded package."""
    return os.path.basename(glob.glob(f"{folder}/{package}_*.deb")[0]).split("_")[1]


def below(pid: int) -> Iterator[int]:
    """Every process below this one."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        for child in file.read().split():
            yield int(child)
            yield from below(int(child))
