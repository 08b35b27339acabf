"""Clients that make their calls one after the other and note each with its answer.

Which calls those are, and in which order, is told by the seed alone; what they meet is chance.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import socket
import threading
import time
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

from tests.chaos.history import LOST, Call
from tests.chaos.promises import find_hole, unhelpful, whole_lines
from tests.support import artifact, bundles, faults, processes
from tests.support.agent import AGENT, AgentHost
from tests.support.http import Response
from tests.support.log_tar import members_of, output_of

PROJECTS = ("ants", "bees", "moths", "wasps", "flies")
#: A project that nobody calls: it has to run on.
BYSTANDER = "bystander"
#: How often a client makes which call.
VERBS = {
    "launch": 12, "broken": 2, "kill": 6, "purge": 2, "restart": 4, "rollback": 4, "status": 8, "logs": 3, "follow": 1,
    "set secret": 2, "delete secret": 1, "secrets": 2,
}  # fmt: skip
#: Those that end with something at work.
STARTING = ("launch", "restart", "rollback")
#: Those that change nothing.
TELLING = ("status", "logs", "secrets", "broken")
#: How an upgrade may end while processes are killed: done, there already, beside another, given up, not now.
UPGRADED = (200, 201, 409, 422, 503, LOST)
#: The releases there are: of how many processes each is.
SIZES = {"0": 1, "1": 1, "2": 1, "3": 2}
_FOLLOWED_SECONDS = 1.0
#: Whoever waits longer than this is not answered any more: neither the slowest machine nor the longest stop takes so long.
PATIENCE_SECONDS = 300.0
#: The value of every secret: no answer and no file but the secret's own may hold it.
SECRET = b"told-to-nobody"


@dataclass(frozen=True)
class Supply:
    """What there is to be launched: paths of artifacts by version (and `broken`), and of releases of the agent by name.

    `rollbacks` are the versions that a rollback asks for, "" for none.
    """

    artifacts: Mapping[str, str]
    agents: Mapping[str, str]
    rollbacks: Sequence[str] = ("", "1", "2", "3")


def supply(host: AgentHost, pyz: str, has_agents: bool) -> Supply:
    """Releases of a project that counts, one of nothing, and two of the agent that take less time to prove themselves.

    Their output is rotated again and again, and kept all the same. `SIZES` says of how many processes each is: one has a second
    one that leaves its session.
    """
    logs = {"segment_bytes": 2048, "segments": 10_000}
    manifests: Dict[str, Dict[str, Any]] = {version: {"env": {"N": version}, "logs": logs} for version in SIZES}
    manifests["3"]["command"] = f"setsid -f tail -f __main__.py >/dev/null 2>&1; exec {host.python} -I __main__.py"
    packed = {version: artifact.pack("counts_lines", host.artifacts, manifest=found) for version, found in manifests.items()}
    packed["broken"] = artifact.pack("no_entry_point", host.artifacts)
    agents = {name: bundles.release(pyz, host.artifacts, name, *faults.HASTE) for name in ("one", "two") if has_agents}
    return Supply(packed, agents)


class Planned(NamedTuple):
    """A call that will be made. `argument` is a version, a secret, or a release of the agent; "" for none."""

    project: str
    verb: str
    argument: str


def plan(number: int, seed: int, calls: int, supplied: Supply) -> List[Planned]:
    """What the client of this number calls, in its order."""
    chance = random.Random(seed * 1000 + number)
    choices = {
        "launch": "123", "rollback": supplied.rollbacks, "set secret": "ab", "delete secret": "ab",
        "upgrade": list(supplied.agents),
    }  # fmt: skip
    planned = []
    for _ in range(calls):
        project = chance.choice(PROJECTS)
        verb = chance.choices(list(VERBS), list(VERBS.values()))[0]
        if supplied.agents and chance.random() < 0.02:
            project, verb = AGENT, "upgrade"
        planned.append(Planned(project, verb, chance.choice(choices.get(verb, ("",)))))
    return planned


class Client(threading.Thread):
    """Makes the planned calls, or fewer once it is `over`.

    A refused connection is nobody's answer, and output with a hole in it is no answer either.
    """

    def __init__(self, host: AgentHost, number: int, planned: Sequence[Planned], supplied: Supply, is_whole: bool = True) -> None:
        super().__init__(daemon=True)
        self.calls: Dict[str, List[Call]] = {project: [] for project in (*PROJECTS, AGENT)}
        self.wrong: List[str] = []
        self.over, self.made = threading.Event(), 0
        self._host, self._number, self._planned, self._supplied, self._is_whole = host, number, planned, supplied, is_whole
        self._random = random.Random(number)

    def run(self) -> None:
        for planned in self._planned:
            if self.over.is_set():
                return
            self._call(*planned)
            self.made += 1

    @property
    def share_made(self) -> float:
        """Of its calls; all of them once it has ended."""
        return self.made / len(self._planned) if self.is_alive() else 1.0

    def _call(self, project: str, verb: str, argument: str) -> None:
        call = Call(self._number, verb, argument, time.monotonic())
        if verb != "follow":
            self.calls[project].append(call)
        try:
            answer = self._make(verb, project, argument)
        except (ConnectionRefusedError, socket.timeout) as error:
            if not self.over.is_set():
                self.wrong.append(f"{call}: {error}")
        except (OSError, HTTPException):
            return  # the agent died with it
        else:
            if answer is not None:
                call.ended, call.status, call.reply = time.monotonic(), answer.status, self._read(project, answer)
                self._ask_whether_ready(project, call)

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
            "set secret": lambda: host.request("PUT", f"{path}/secrets/{argument}", SECRET),
            "delete secret": lambda: host.request("DELETE", f"{path}/secrets/{argument}"),
            "secrets": lambda: host.request("GET", f"{path}/secrets"),
            "upgrade": lambda: host.launch(AGENT, self._supplied.agents[argument], force="true"),
        }
        return verbs[verb]()

    def _ask_whether_ready(self, project: str, call: Call) -> None:
        """Whoever is told to be ready has left a file before it said so, or was ended meanwhile."""
        if self._is_whole and project in PROJECTS and call.verb in STARTING and call.status in (200, 201):
            pid = call.reply["pid"]
            path = self._host.path("projects", project, "data", f"about-to-be-ready-{pid}")
            if pid is not None and not os.path.exists(path) and processes.look(pid) is not None:
                self.wrong.append(f"{call}: it was not ready")

    def _read(self, project: str, answer: Response) -> Dict[str, Any]:
        if SECRET in answer.body:
            self.wrong.append(f"a secret of {project} is in an answer: {answer}")
        if answer.status >= 400:
            self.wrong += unhelpful(answer.status, answer.headers, answer.json)
        if answer.headers.get("content-type") != "application/x-tar":
            return answer.json
        if self._is_whole:
            self._look_at(project, output_of(project, members_of(answer.body)))
        return {}

    def _look_at(self, project: str, output: bytes) -> None:
        hole = find_hole(whole_lines(output))
        if hole is not None:
            self.wrong.append(f"{project}: {hole}")

    def _follow(self, project: str) -> None:
        """All output from the first line on, and what comes in the next second, as far as that goes well."""
        connection = http.client.HTTPConnection(*self._host.address, timeout=PATIENCE_SECONDS)
        seen = b""
        until = time.monotonic() + self._random.uniform(0, _FOLLOWED_SECONDS)
        try:
            connection.request(
                "GET", f"/project/{project}/logs?format=text&follow=true", headers={"Authorization": f"Bearer {self._host.token}"}
            )
            held = connection.sock
            answer = connection.getresponse()
            held.settimeout(_FOLLOWED_SECONDS)
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
