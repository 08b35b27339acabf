"""What a run may use and what it must have: its user, its limits, its secrets. Asked by the agent before a launch, so that it
fails before anything changes, and given by the shim at each start.

Limits hold for a run as a whole, or they are refused: an address space limit for each process is not `memory_bytes`, and the
kernel counts RLIMIT_NPROC for a user, which is right only when the project has a user of its own.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from typing import Dict, List, Optional

from agent.errors import ArtifactFault
from agent.host import cgroups, files, prctl, procfs, users
from agent.host.users import User
from agent.model import Release, ResourceLimits
from agent.shim.record import read_record
from agent.store.layout import ProjectLayout, StoreLayout

_PERIOD_MICROSECONDS = 100_000


@dataclass(frozen=True)
class Rights:
    """What a child takes on between fork and exec. `user` None is the shim's own, `group` a control group's path.

    A limited one must be in that group. An expendable one may be ended for memory before the agent and its shims, whatever
    protects these.
    """

    user: Optional[User] = None
    group: Optional[str] = None
    open_files: Optional[int] = None
    processes: Optional[int] = None
    new_privileges: bool = True
    is_expendable: bool = False
    is_limited: bool = False

    def take(self, is_inside: bool = False) -> None:
        """In the child, which may be born in its group. Entering it takes the kernel some 10 ms: only limits are worth it."""
        if self.is_limited and not is_inside and not (self.group is not None and cgroups.enter(self.group, 0)):
            raise OSError(0, "it can't enter its control group", self.group)
        for kind, most in ((resource.RLIMIT_NOFILE, self.open_files), (resource.RLIMIT_NPROC, self.processes)):
            if most is not None:
                resource.setrlimit(kind, (most, most))
        if self.is_expendable:
            procfs.give_up_oom_protection()
        if self.user is not None:
            self.user.become()
        if not self.new_privileges:
            prctl.set_no_new_privs()


#: Those of the shim itself.
UNCHANGED = Rights()


def require(release: Release, layout: ProjectLayout) -> None:
    """ArtifactFault, with its step, for what this host lacks or can't hold the project to."""
    missing = [name for name in release.secrets if not os.path.isfile(f"{layout.secrets}/{name}")]
    if missing:
        raise ArtifactFault(
            f"secrets: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not on this host.",
            f"Set it first: PUT /project/{release.project}/secrets/{missing[0]}, or "
            f"'ant-host-agent.pyz secrets set {release.project} {missing[0]}'.",
            step="secrets", field="secrets", missing=missing,
        )  # fmt: skip
    user = _user(release)
    if user is not None:
        store = layout.store.root
        closed = users.closed_folder(os.path.dirname(store), user)
        if closed is not None:
            raise ArtifactFault(
                f"user: {user.name} can't reach the store, {store}: {closed} is closed to it.",
                f"Run 'chmod o+x {closed}' on the host, or start the agent with another --store.", step="user", field="user",
            )  # fmt: skip
    _refuse_limits(release, user, layout.store)


def claim(release: Release, layout: ProjectLayout, output: int, name: str) -> Rights:
    """Make ready what the run of this release takes on, its control group of that `name`. ArtifactFault if that can't be."""
    user = _user(release)
    if os.geteuid() == 0:
        _hand_over(layout, user or users.own(), output)
    if user is not None:
        _let_in(layout, user)
    _refuse_limits(release, user, layout.store)
    limits = release.limits
    settings = _settings(limits, user)
    group = cgroups.create(name, settings)
    if settings and group is None:
        raise ArtifactFault("limits: the project's control group can't be made.", "Look at the host's /sys/fs/cgroup.")
    by_user = limits.processes if "pids.max" not in settings else None
    return Rights(user, group, limits.open_files, by_user, release.new_privileges, is_expendable=True, is_limited=bool(settings))


def lend(release: Release, layout: ProjectLayout, output: int) -> Rights:
    """What a hook, a migration or a check of readiness takes on: as the run's own, but for its limits.

    An old run may be at work: if its data belongs to another user than this one, it stays so until that run has ended.
    """
    user = _user(release)
    if user is not None:
        if os.stat(layout.data).st_uid in (0, user.uid):
            _hand_over(layout, user, output)
        _let_in(layout, user)
    return Rights(user, new_privileges=release.new_privileges, is_expendable=True)


def _hand_over(layout: ProjectLayout, owner: User, output: int) -> None:
    if os.stat(layout.data).st_uid != owner.uid:  # it may be large
        users.give(layout.data, owner)
    users.give(layout.secrets, owner)  # one may have been set while the folder changed hands
    if os.fstat(output).st_uid != owner.uid:
        os.fchown(output, owner.uid, owner.gid)  # or it could not open /dev/stdout


def _user(release: Release) -> Optional[User]:
    if release.user is None:
        return None
    if os.geteuid() != 0:
        raise ArtifactFault(
            f"user: this agent runs as {users.own().name}, so it can't run anything as {release.user}.",
            "Run the agent as root, or leave 'user' out.", step="user", field="user",
        )  # fmt: skip
    user = users.find(release.user)
    if user is None:
        raise ArtifactFault(
            f"user: there is no user {release.user!r} on this host.",
            f"Make one: 'useradd --system {release.user}', or correct 'user'.", step="user", field="user",
        )  # fmt: skip
    return user


def _let_in(layout: ProjectLayout, user: User) -> None:
    """Open the way to the release and to nothing else: others may pass the store but not list it, and each project's folder
    lets in its own user's group only. All that is secret has a mode of its own (0600 or 0700).

    What is so already is left alone: the disk may be read-only.
    """
    for folder in (layout.store.root, layout.store.projects, layout.releases):
        mode = os.stat(folder).st_mode & 0o7777
        if mode | 0o011 != mode:
            os.chmod(folder, mode | 0o011)
    root = os.stat(layout.root)
    if (root.st_gid, root.st_mode & 0o7777) != (user.gid, 0o710):
        os.chown(layout.root, -1, user.gid)
        os.chmod(layout.root, 0o710)


def _settings(limits: ResourceLimits, user: Optional[User]) -> Dict[str, str]:
    """The control group's files and what they are to hold (the kernel's cgroup-v2.rst)."""
    settings = {}
    if limits.memory_bytes is not None:
        # the run ends as a whole: one process of it killed leaves a project that looks alive
        settings.update({"memory.max": str(limits.memory_bytes), "memory.swap.max": "0", "memory.oom.group": "1"})
    if limits.cpus is not None:
        settings["cpu.max"] = f"{max(1000, round(limits.cpus * _PERIOD_MICROSECONDS))} {_PERIOD_MICROSECONDS}"
    if limits.processes is not None and not (_counts_by_user(user) and not cgroups.offers("pids")):
        settings["pids.max"] = str(limits.processes)
    return settings


def _counts_by_user(user: Optional[User]) -> bool:
    return user is not None and user.uid != 0


def _refuse_limits(release: Release, user: Optional[User], store: StoreLayout) -> None:
    controllers = {name.partition(".")[0] for name in _settings(release.limits, user)}
    lacking = cgroups.enable(sorted(controllers), lambda: _own_processes(store)) if controllers else []
    if lacking:
        names = {"memory": "memory_bytes", "cpu": "cpus", "pids": "processes"}
        fields = [names[controller] for controller in lacking]
        raise ArtifactFault(
            f"limits: this host can't enforce {' and '.join(fields)}: the agent has no cgroup v2 tree with the controller"
            f"{'s' if len(lacking) > 1 else ''} {', '.join(lacking)}.",
            "Run the agent as a systemd service with Delegate=yes on a host with cgroup v2 ('ant-host-agent.pyz install'), "
            "or leave the limit out" + (", or set 'user' to one of the project's own." if "pids" in lacking else "."),
            step="limits", field=f"limits.{fields[0]}",
        )  # fmt: skip
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    asked = release.limits.open_files
    if asked is not None and most != resource.RLIM_INFINITY and asked > most and os.geteuid() != 0:
        raise ArtifactFault(
            f"limits: this host allows its agent at most {most} open files, not {asked}.",
            "Lower 'open_files', or raise the agent's own limit (LimitNOFILE= in its unit).",
            step="limits", field="limits.open_files",
        )  # fmt: skip


def _own_processes(store: StoreLayout) -> List[int]:
    """The agent, its shims, and all below them: what may be moved to make room for controllers."""
    shims = [os.getpid(), os.getppid()]
    for project in files.names(store.projects):
        record = read_record(store.project(project))
        if record is not None and record.shim and procfs.is_alive(record.shim["pid"], record.shim["start_time"]):
            shims.append(record.shim["pid"])
    return [*shims, *(process.pid for process in procfs.descendants(shims, procfs.processes()))]
