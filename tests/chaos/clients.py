"""Clients that make their calls one after the other and note each with its answer."""

from __future__ import annotations

import contextlib
import http.client
import random
import re
import threading
import time
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from tests.chaos.history import LOST, Call
from tests.support import artifact, bundles, faults
from tests.support.agent import AGENT, AgentHost
from tests.support.http import Response
from tests.support.log_tar import members_of, output_of

PROJECTS = ("ants", "bees", "moths", "wasps", "flies")
#: How often a client makes which call.
VERBS = {
    "launch": 12, "broken": 2, "kill": 6, "purge": 2, "restart": 4, "rollback": 4, "status": 8, "logs": 3, "follow": 1,
    "set secret": 2, "delete secret": 1, "secrets": 2,
}  # fmt: skip
#: Those that change nothing.
TELLING = ("status", "logs", "secrets", "broken")
#: How an upgrade may end while processes are killed: done, there already, beside another, given up, not now.
UPGRADED = (200, 201, 409, 422, 503, LOST)
_FOLLOWED_SECONDS = 1.0
_LINE = re.compile(rb"(\S+ \d+) (\d+)")


@dataclass(frozen=True)
class Supply:
    """What there is to be launched: paths of artifacts by version (and `broken`), and of releases of the agent by name.

    `rollbacks` are the versions that a rollback asks for, "" for none.
    """

    artifacts: Mapping[str, str]
    agents: Mapping[str, str]
    rollbacks: Sequence[str] = ("", "1", "2", "3")


def supply(host: AgentHost, pyz: str, has_agents: bool) -> Supply:
    """Three releases of a project that counts, one of nothing, and two of the agent that take less time to prove themselves."""
    packed = {version: artifact.pack("counts_lines", host.artifacts, manifest={"env": {"N": version}}) for version in "123"}
    packed["broken"] = artifact.pack("no_entry_point", host.artifacts)
    agents = {name: bundles.release(pyz, host.artifacts, name, *faults.HASTE) for name in ("one", "two") if has_agents}
    return Supply(packed, agents)


class Client(threading.Thread):
    """Makes so many calls, or fewer once it is `over`.

    A refused connection is nobody's answer, and output with a hole in it is no answer either.
    """

    def __init__(self, host: AgentHost, number: int, seed: int, calls: int, supplied: Supply, is_whole: bool = True) -> None:
        super().__init__(daemon=True)
        self.calls: Dict[str, List[Call]] = {project: [] for project in (*PROJECTS, AGENT)}
        self.wrong: List[str] = []
        self.over, self.made = threading.Event(), 0
        self._host, self._number, self._supplied, self._count, self._is_whole = host, number, supplied, calls, is_whole
        self._random = random.Random(seed * 1000 + number)

    def run(self) -> None:
        for _ in range(self._count):
            if self.over.is_set():
                return
            project = self._random.choice(PROJECTS)
            verb = self._random.choices(list(VERBS), list(VERBS.values()))[0]
            if self._supplied.agents and self._random.random() < 0.02:
                project, verb = AGENT, "upgrade"
            self._call(project, verb, self._argument(verb))
            self.made += 1

    def _argument(self, verb: str) -> str:
        choices = {
            "launch": "123", "rollback": self._supplied.rollbacks, "set secret": "ab", "delete secret": "ab",
            "upgrade": list(self._supplied.agents),
        }  # fmt: skip
        return self._random.choice(choices.get(verb, ("",)))

    def _call(self, project: str, verb: str, argument: str) -> None:
        call = Call(self._number, verb, argument, time.monotonic())
        if verb != "follow":
            self.calls[project].append(call)
        try:
            answer = self._make(verb, project, argument)
        except ConnectionRefusedError as error:
            if not self.over.is_set():
                self.wrong.append(f"{call}: {error}")
        except (OSError, HTTPException):
            return  # the agent died with it
        else:
            if answer is not None:
                call.ended, call.status, call.reply = time.monotonic(), answer.status, self._read(project, answer)

    def _make(self, verb: str, project: str, argument: str) -> Optional[Response]:
        host, path = self._host, f"/project/{project}"
        verbs: Dict[str, Callable[[], Optional[Response]]] = {
            "launch": lambda: host.launch(project, self._supplied.artifacts[argument], version=argument),
            "broken": lambda: host.launch(project, self._supplied.artifacts["broken"], version="broken"),
            "kill": lambda: host.kill(project),
            "purge": lambda: host.kill(project, purge="true"),
            "restart": lambda: host.request("POST", f"{path}/restart"),
            "rollback": lambda: host.request_json("POST", f"{path}/rollback", {"version": argument} if argument else {}),
            "status": lambda: host.request("GET", path),
            "logs": lambda: host.request("GET", f"{path}/logs"),
            "follow": lambda: self._follow(project),
            "set secret": lambda: host.request("PUT", f"{path}/secrets/{argument}", b"told to nobody"),
            "delete secret": lambda: host.request("DELETE", f"{path}/secrets/{argument}"),
            "secrets": lambda: host.request("GET", f"{path}/secrets"),
            "upgrade": lambda: host.launch(AGENT, self._supplied.agents[argument], force="true"),
        }
        return verbs[verb]()

    def _read(self, project: str, answer: Response) -> Dict[str, Any]:
        if answer.headers.get("content-type") != "application/x-tar":
            return answer.json
        if self._is_whole:
            self._look_at(project, output_of(project, members_of(answer.body)))
        return {}

    def _look_at(self, project: str, output: bytes) -> None:
        hole = find_hole(output[: output.rfind(b"\n") + 1])  # the last line may be on its way
        if hole is not None:
            self.wrong.append(f"{project}: {hole}")

    def _follow(self, project: str) -> None:
        """All output from the first line on, and what comes in the next second, as far as that goes well."""
        connection = http.client.HTTPConnection(*self._host.address, timeout=_FOLLOWED_SECONDS)
        seen = b""
        until = time.monotonic() + self._random.uniform(0, _FOLLOWED_SECONDS)
        try:
            connection.request(
                "GET", f"/project/{project}/logs?format=text&follow=true", headers={"Authorization": f"Bearer {self._host.token}"}
            )
            answer = connection.getresponse()
            with contextlib.suppress(OSError, HTTPException):
                while answer.status == 200 and time.monotonic() < until:
                    data = answer.read1(65536)
                    if not data:
                        break
                    seen += data
        finally:
            connection.close()
        if self._is_whole:
            self._look_at(project, seen)


def find_hole(output: bytes) -> Optional[str]:
    """What is wrong with it, unless every run's numbers are there from 0 on, each once and in order."""
    following: Dict[bytes, int] = {}
    for line in output.splitlines():
        match = _LINE.fullmatch(line)
        run = match[1] if match else b"?"
        if match is None or int(match[2]) != following.get(run, 0):
            return f"{line!r}, not {following.get(run, 0)}"
        following[run] = int(match[2]) + 1
    return None


