"""Several hosts on one machine: network namespaces of a test's own (ip-netns(8)) on one bridge, apart from its network."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import List, Sequence


class Network:
    """`controller` (10.77.0.254) and hosts that are added, each 10.77.0.N. Needs root and iproute2."""

    def __init__(self) -> None:
        self._prefix = f"ant{os.getpid()}"
        self._namespaces: List[str] = []
        self.controller = self._make("ctl")
        self._ip(self.controller, "link", "add", "br0", "type", "bridge")
        self._ip(self.controller, "addr", "add", "10.77.0.254/24", "dev", "br0")
        self._ip(self.controller, "link", "set", "br0", "up")

    def add(self, number: int) -> str:
        """A further host; its address."""
        name, wire = self._make(f"h{number}"), f"w{number}"
        self._ip(self.controller, "link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", name)
        self._ip(self.controller, "link", "set", wire, "master", "br0", "up")
        self._ip(name, "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
        self._ip(name, "link", "set", "eth0", "up")
        return f"10.77.0.{number}"

    def inside(self, number: int, *command: str) -> List[str]:
        """The command line that runs a command on a host."""
        return ["ip", "netns", "exec", f"{self._prefix}-h{number}", *command]

    def controlling(self, *command: str) -> List[str]:
        """The same for the controller."""
        return ["ip", "netns", "exec", self.controller, *command]

    def close(self) -> None:
        """Remove all of it; what runs inside has ended before."""
        for name in self._namespaces:
            subprocess.run(["ip", "netns", "del", name], check=True)

    def _make(self, name: str) -> str:
        whole = f"{self._prefix}-{name}"
        subprocess.run(["ip", "netns", "add", whole], check=True)
        self._namespaces.append(whole)
        self._ip(whole, "link", "set", "lo", "up")
        return whole

    @staticmethod
    def _ip(namespace: str, *words: str) -> None:
        subprocess.run(["ip", "-n", namespace, *words], check=True)


def can_make() -> bool:
    """Whether this machine lets us have namespaces."""
    if shutil.which("ip") is None:
        return False
    probe = f"ant{os.getpid()}-probe"
    made: Sequence[str] = ("ip", "netns", "add", probe)
    if subprocess.run(made, capture_output=True, check=False).returncode:
        return False
    subprocess.run(["ip", "netns", "del", probe], check=True)
    return True
