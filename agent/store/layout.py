"""Every path in the store, and nothing else: no I/O, so that the shim may use it, too."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class ProjectLayout:
    """The paths of one project under `<store>/projects/<project>/`."""

    root: str
    project: str

    @property
    def store(self) -> StoreLayout:
        return StoreLayout(os.path.dirname(os.path.dirname(self.root)))

    @property
    def releases(self) -> str:
        return self.root + "/releases"

    def release(self, version: str) -> str:
        """The directory that one artifact was unpacked into."""
        return f"{self.releases}/{version}"

    def release_json(self, version: str) -> str:
        return f"{self.releases}/{version}.json"

    @property
    def current(self) -> str:
        """The symlink to the release that runs, relative: `releases/<version>`."""
        return self.root + "/current"

    @property
    def want(self) -> str:
        return self.root + "/want.json"

    @property
    def want_lock(self) -> str:
        """Held for the moment of a read-modify-write of the want."""
        return self.root + "/want.lock"

    @property
    def record(self) -> str:
        return self.root + "/record.json"

    @property
    def shim_lock(self) -> str:
        return self.root + "/shim.lock"

    @property
    def launch_lock(self) -> str:
        """Held by the agent for as long as a call changes this project."""
        return self.root + "/launch.lock"

    @property
    def rehearsal(self) -> str:
        """Where the agent's own shim is another project's shim for a moment, when it starts; not there otherwise."""
        return self.root + "/rehearsal"

    @property
    def fifo(self) -> str:
        return self.root + "/log.fifo"

    @property
    def error_fifo(self) -> str:
        """Where standard error comes through, once a release has asked for it apart."""
        return self.root + "/error.fifo"

    @property
    def logs(self) -> str:
        return self.root + "/logs"

    @property
    def events(self) -> str:
        """The shim's own events as JSON lines, beside the output."""
        return self.logs + "/events.jsonl"

    @property
    def crashes(self) -> str:
        """A capsule for each of the last abnormal ends: `run-<number>.json`."""
        return self.logs + "/crashes"

    @property
    def orphan_exits(self) -> str:
        """What the agent's shim learned of this project's processes after their own shim had died."""
        return self.root + "/orphan-exits.jsonl"

    @property
    def errand(self) -> str:
        """What the shim's helper process for a preparation or a readiness has found so far."""
        return self.root + "/errand.json"

    @property
    def history(self) -> str:
        return self.root + "/history.jsonl"

    @property
    def data(self) -> str:
        return self.root + "/data"

    @property
    def secrets(self) -> str:
        return self.root + "/secrets"


@dataclass(frozen=True)
class StoreLayout:
    """The paths of the whole store."""

    root: str

    @property
    def token(self) -> str:
        return self.root + "/token"

    @property
    def keys(self) -> str:
        """The digests of all keys but the admin's."""
        return self.root + "/tokens.json"

    @property
    def audit(self) -> str:
        """One line for every call that changes something, and for those who tried without a key."""
        return self.root + "/audit.jsonl"

    @property
    def events(self) -> str:
        """What happens to all projects, as JSON lines: what `GET /events` follows."""
        return self.root + "/events.jsonl"

    @property
    def allowed_signers(self) -> str:
        """Whose signatures count: ssh-keygen(1), ALLOWED SIGNERS."""
        return self.root + "/allowed_signers"

    @property
    def config(self) -> str:
        return self.root + "/config.json"

    @property
    def installed(self) -> str:
        """The digest of the file that `install` has put on this host, once it has been started."""
        return self.root + "/installed"

    @property
    def quarantine(self) -> str:
        """Releases of the agent, by digest, that failed their proof or probation on this host."""
        return self.root + "/quarantine.json"

    @property
    def staging(self) -> str:
        return self.root + "/staging"

    @property
    def projects(self) -> str:
        return self.root + "/projects"

    def project(self, project: str) -> ProjectLayout:
        return ProjectLayout(f"{self.projects}/{project}", project)
