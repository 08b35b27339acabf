"""A host with an agent: the built zipapp as a real process on a store and a port of its own."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import ssl
import subprocess
import tempfile
from typing import Any, Dict, List, Mapping, Optional, Sequence

from tests.support import artifact, http, processes
from tests.support.http import Body, Response
from tests.support.log_tar import members_of, output_of
from tests.support.processes import Process
from tests.support.wait import eventually

AGENT = "ant-host-agent"
START_SECONDS = 20.0
STOP_SECONDS = 120.0

#: What the agent itself is started with; a canary shows whether its environment leaks into projects.
_ENVIRON = {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": "/nonexistent", "LEAK_CANARY": "of the agent's own"}


class AgentHost:
    """An agent under test. `user`, for a root test run only, is the name of the user that it runs as."""

    def __init__(
        self, pyz: str, python: str, user: Optional[str] = None, arguments: Sequence[str] = (),
        environ: Optional[Mapping[str, str]] = None, tls: Optional[ssl.SSLContext] = None,
    ) -> None:  # fmt: skip
        self.tls = tls
        self._environ = {**_ENVIRON, **(environ or {})}
        self.user, self._arguments = user, tuple(arguments)
        # not below pytest's own tmp_path: that is 0700, and another user has to get here
        self.base = tempfile.mkdtemp(prefix="ant-e2e-")
        os.chmod(self.base, 0o755)
        self.store = os.path.join(self.base, "store")
        self.artifacts = os.path.join(self.base, "artifacts")
        os.mkdir(self.artifacts)
        os.mkdir(self.store, 0o700)
        if user is not None:
            account = pwd.getpwnam(user)
            os.chown(self.store, account.pw_uid, account.pw_gid)
        self.pyz = shutil.copy(pyz, self.base)
        self.python = python
        self.address = ("127.0.0.1", http.free_port())
        self.process: Optional[subprocess.Popen[bytes]] = None
        #: For how long each call waits for its answer.
        self.timeout_seconds = http.TIMEOUT_SECONDS

    # -- its life ------------------------------------------------------------------------------------------------

    def __enter__(self) -> AgentHost:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def command(self, *arguments: str) -> List[str]:
        """The command line that runs the zipapp."""
        return [self.python, "-I", self.pyz, *arguments]

    def serve_command(self) -> List[str]:
        """The command line of the agent under test."""
        listen = "{}:{}".format(*self.address)
        return self.command("serve", "--store", self.store, "--listen", listen, *self._arguments)

    def start(self) -> None:
        """Start the agent in the foreground of a session of its own; returns once it answers ping."""
        assert self.process is None or self.process.poll() is not None, "it was started already"
        with open(self.output_path, "ab") as output:
            self.process = subprocess.Popen(
                self.serve_command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self._environ,
                cwd="/", start_new_session=True, **self._credentials(),
            )  # fmt: skip
        eventually(lambda: self.is_answering() or self.process_ended(), START_SECONDS, self.output)
        assert not self.process_ended(), f"it ended with {self.process.poll()}: {self.output()}"

    def run(self, *arguments: str, timeout_seconds: float = 60.0) -> subprocess.CompletedProcess[bytes]:
        """Run the zipapp to its end with these arguments, as the same user."""
        return subprocess.run(
            self.command(*arguments), stdin=subprocess.DEVNULL, capture_output=True, env=_ENVIRON, cwd="/",
            timeout=timeout_seconds, check=False, **self._credentials(),
        )  # fmt: skip

    def splices(self) -> bool:
        """Whether the agent's Python has splice(2): from 3.10 on."""
        probe = [self.python, "-I", "-c", "import os; os.splice"]
        return subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode == 0

    def stop(self) -> int:
        """SIGTERM to the process that was started, and its exit code. Projects go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def close(self) -> None:
        """Kill all projects, stop the agent, and remove the store. AssertionError if anything was left alive."""
        try:
            self._put_down()
        finally:
            left = self.processes()
            processes.kill_all(left)
            if self.process is not None:
                self.process.wait(STOP_SECONDS)
            eventually(lambda: not self.processes(), 10, "the end of the leftovers")
            shutil.rmtree(self.base)
        assert not left, f"left alive: {', '.join(map(str, left))}"

    def end_at_once(self) -> None:
        """Kill every process of the host; they start each other again, so all are stopped first. Returns once they are gone."""
        for number in (signal.SIGSTOP,) * 4 + (signal.SIGKILL,):
            for process in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)
        assert self.process is not None
        self.process.wait(STOP_SECONDS)
        eventually(lambda: not self.processes(), 30, lambda: f"the end of {self.processes()}")

    def is_answering(self) -> bool:
        """Whether ping is answered."""
        with contextlib.suppress(OSError):
            return http.request(self.address, "GET", "/ping", tls=self.tls).body == b"pong"
        return False

    def process_ended(self) -> bool:
        """Whether the process that was started is gone, by now or for good."""
        return self.process is None or self.process.poll() is not None

    def _put_down(self) -> None:
        if self.process is None or not self.is_answering():
            return
        for project in self.projects():
            if project != AGENT:
                self.kill(project, grace_seconds=0)
        if not self.process_ended():
            self.stop()
        else:  # its shim was killed and replaced
            self.run("stop", "--store", self.store)
        eventually(lambda: not self.processes(), STOP_SECONDS, lambda: ", ".join(map(str, self.processes())))

    def _credentials(self) -> Dict[str, Any]:
        if self.user is None:
            return {}
        account = pwd.getpwnam(self.user)
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}

    # -- calls ---------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return ("https" if self.tls else "http") + "://{}:{}".format(*self.address)

    @property
    def token(self) -> str:
        """The admin key that the agent made at its first start."""
        return self.read("token").decode().strip()

    def request(
        self, method: str, path: str, body: Body = None, headers: Optional[Mapping[str, str]] = None,
        key: Optional[str] = "",
    ) -> Response:  # fmt: skip
        """One call with the admin key; with another `key`, or None for no key at all."""
        own = {} if key is None else {"Authorization": f"Bearer {key or self.token}"}
        return http.request(self.address, method, path, body, {**own, **(headers or {})}, self.tls, self.timeout_seconds)

    def request_json(self, method: str, path: str, document: object) -> Response:
        """One call with a JSON body."""
        return self.request(method, path, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def launch(self, project: Optional[str], path: str, **values: object) -> Response:
        """`POST /project` with the artifact as the raw body."""
        size = {"Content-Length": str(os.path.getsize(path)), "Content-Type": "application/octet-stream"}
        with open(path, "rb") as stream:
            return self.request("POST", http.query("/project", {"project": project, **values}), stream, size)

    def launch_fixture(self, project: str, name: str, shape: str = "tar.gz", **manifest: object) -> Response:
        """Pack fixtures/projects/`name`, with members of its manifest replaced, and launch it as `project`."""
        path = artifact.pack(name, self.artifacts, shape, manifest or None)
        return self.launch(project, path)

    def kill(self, project: str, **values: object) -> Response:
        """`DELETE /project/<project>`."""
        return self.request("DELETE", http.query(f"/project/{project}", values))

    def status(self, project: str) -> Dict[str, Any]:
        """`GET /project/<project>`, which has to be known."""
        response = self.request("GET", f"/project/{project}")
        assert response.status == 200, response
        return response.json

    def projects(self) -> List[str]:
        """The ids of all known projects."""
        response = self.request("GET", "/project")
        assert response.status == 200, response
        return sorted(entry["project"] for entry in response.json["projects"])

    def logs(self, project: str) -> Dict[str, bytes]:
        """`GET /project/<project>/logs`: the members of the tar in their order."""
        response = self.request("GET", f"/project/{project}/logs")
        assert response.status == 200, response
        return members_of(response.body)

    def project_output(self, project: str) -> bytes:
        """All that the project printed, as the tar has it."""
        return output_of(project, self.logs(project))

    def wait_for_output(self, project: str, wanted: bytes, deadline_seconds: float = 10.0) -> bytes:
        """The project's output, as soon as `wanted` is in it."""
        eventually(
            lambda: wanted in self.project_output(project), deadline_seconds,
            lambda: f"{wanted!r} in the output of {project}: {self.project_output(project)[-2000:]!r}",
        )  # fmt: skip
        return self.project_output(project)

    def wait_for_state(self, project: str, *states: str, deadline_seconds: float = 10.0) -> Dict[str, Any]:
        """The project's status, as soon as its state is one of `states`."""
        eventually(
            lambda: self.status(project)["state"] in states, deadline_seconds,
            lambda: f"{project} in {states}: {self.status(project)}",
        )  # fmt: skip
        return self.status(project)

    # -- what the kernel and the disk say -------------------------------------------------------------------------

    @property
    def output_path(self) -> str:
        """What the process that was started prints."""
        return os.path.join(self.base, "output")

    def output(self) -> str:
        with open(self.output_path, encoding="utf-8", errors="replace") as stream:
            return stream.read()

    def agent_output(self) -> str:
        """What the agents and their shims printed, which is the output of their project."""
        logs = self.path("projects", AGENT, "logs")
        names = sorted(name for name in os.listdir(logs) if name.startswith("output-"))
        return b"".join(self.read("projects", AGENT, "logs", name) for name in names).decode(errors="replace")

    def path(self, *parts: str) -> str:
        return os.path.join(self.store, *parts)

    def read(self, *parts: str) -> bytes:
        with open(self.path(*parts), "rb") as stream:
            return stream.read()

    def staging(self) -> List[str]:
        """What lies in staging/ right now."""
        return sorted(os.listdir(self.path("staging")))

    def record(self, project: str) -> Dict[str, Any]:
        """The project's record, or what stands in for it since the disk refused it."""
        path = self.path("projects", project, "record.json")
        standing_in = f"/dev/shm/ant-host-agent-{os.geteuid()}{path}"
        document: Dict[str, Any]
        with contextlib.suppress(FileNotFoundError):
            if os.stat(standing_in).st_mtime_ns >= os.stat(path).st_mtime_ns:
                with open(standing_in, "rb") as stream:
                    document = json.load(stream)
                    return document
        document = json.loads(self.read("projects", project, "record.json"))
        return document

    def processes(self) -> List[Process]:
        """Every live process that mentions the store."""
        return processes.mentioning(self.store)

    def project_processes(self, project: str) -> List[Process]:
        """Every live process that the project started, wherever it hangs by now."""
        marker = {"PROJECT": project, "PERSIST_DIR": self.path("projects", project, "data")}
        return [
            process for process in self.processes()
            if marker.items() <= processes.environment(process.pid).items()
        ]  # fmt: skip

    def shim(self, project: str) -> Process:
        """The project's shim, by its record; it has to be alive."""
        process = processes.look(self.record(project)["shim"]["pid"])
        assert process is not None, f"no shim of {project}: {self.record(project)}"
        return process

    def shim_pid(self, project: str) -> int:
        return self.shim(project).pid

    @property
    def agent(self) -> Process:
        """The agent itself, the child of its own shim; it has to be alive."""
        process = processes.look(self.record(AGENT)["pid"])
        assert process is not None, f"no agent: {self.record(AGENT)}"
        return process

    @property
    def agent_pid(self) -> int:
        return self.agent.pid

    def crash_agent(self) -> None:
        """kill -9 of the agent. The next call has to be answered all the same."""
        processes.kill_hard(eventually(lambda: processes.look(self.record(AGENT)["pid"] or 0), 10, "an agent"))

    def crash_shim(self, project: str) -> Process:
        """kill -9 of the project's shim; what was killed."""
        victim = self.shim(project)
        processes.kill_hard(victim)
        return victim
