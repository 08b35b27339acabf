"""What `doctor` looks at on this host without changing anything; each check is a few lines and says what it found."""

from __future__ import annotations

import ctypes
import importlib
import os
import platform
import resource
import shutil
import socket
import stat
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any, Callable, Dict, List, Tuple

from agent.host import cgroups, confinement, files, locks, prctl, users
from agent.model import AGENT_PROJECT
from agent.store import keys
from agent.store.layout import StoreLayout

#: As it must be; works, but one promise can't be kept here; must be mended.
OK, LIMIT, BAD = "ok", "limit", "bad"

_SPARE_BYTES = 1 << 30
_SLOW_SYNC_SECONDS = 0.5
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronized
_YEAR_2024 = 1_704_067_200
_UNIT = "ant-host-agent.service"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `promise`: what this host can't promise because of it (level `limit` or `bad`)."""

    topic: str
    level: str
    text: str
    hint: str = ""
    promise: str = ""

    def to_json(self) -> Dict[str, Any]:
        return asdict(self)


def look(store: StoreLayout, address: Tuple[str, int]) -> List[Finding]:
    """All findings. `address` is where the agent of this store listens, or would."""
    found = [check() for check in OF_THE_HOST]
    return [*found, *(check(store) for check in (folder, secrets, disk)), port(store, address)]


def python() -> Finding:
    """The interpreter, and the modules that a distribution may have cut out."""
    name = f"CPython {platform.python_version()} on {platform.machine()}"
    lacking = [module for module in ("bz2", "lzma", "sqlite3", "ssl", "zlib") if not _is_there(module)]
    if sys.implementation.name != "cpython" or not (3, 9) <= sys.version_info[:2] <= (3, 13):
        return Finding("python", BAD, f"{name} is none of CPython 3.9 to 3.13.", "Start the agent with such a python3.")
    if lacking:
        kinds = {"bz2": ".tar.bz2", "lzma": ".tar.xz", "sqlite3": "SQLite migrations", "ssl": "https", "zlib": ".gz and zip"}
        lost = ", ".join(kinds[module] for module in lacking)
        return Finding("python", LIMIT, f"{name} lacks {', '.join(lacking)}.", "Install the rest of Python's library.", lost)
    if not hasattr(os, "splice"):
        text = f"{name} has no os.splice: output is copied, and what is being copied is lost when a shim is killed with -9."
        return Finding("python", LIMIT, text, "Python 3.10 and later have it.", "output across the kill -9 of a shim")
    return Finding("python", OK, f"{name}, with all that the agent uses.")


def _is_there(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def kernel() -> Finding:
    """Linux, and what guards the unpacking of artifacts."""
    name, landlock = f"Linux {platform.release()}", confinement.landlock_version()
    if landlock < confinement.LEAST_VERSION:
        text = f"{name} has no Landlock: unpacking is held by the checks and limits alone."
        return Finding("kernel", LIMIT, text, "Linux 5.19 and later have it, if it is in /sys/kernel/security/lsm.", "Landlock")
    return Finding("kernel", OK, f"{name}, Landlock {landlock} confines unpacking.")


def control_groups() -> Finding:
    """Whether `limits` can be enforced. Asked of this process's own group, which may be another one than the agent's."""
    group = cgroups.own_group()
    hint = "Run the agent as a systemd service with Delegate=yes ('ant-host-agent.pyz install') on a host with cgroup v2."
    lost = "limits on memory, cpus and processes"
    if group is None or not os.access(group, os.W_OK):
        return Finding("cgroups", LIMIT, "There is no writable cgroup v2 tree; kill works without, by process tree.", hint, lost)
    lacking = [name for name in ("cpu", "memory", "pids") if not cgroups.offers(name)]
    if lacking:
        return Finding("cgroups", LIMIT, f"{group} has no controller {', '.join(lacking)}.", hint, lost)
    return Finding("cgroups", OK, f"{group} is writable and has cpu, memory and pids.")


def descriptors() -> Finding:
    """How many projects and connections the limits leave room for."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < 4096:
        hint = "Raise it: LimitNOFILE= in a unit, or /etc/security/limits.conf."
        return Finding("limits", LIMIT, f"A process may open {hard} files.", hint, "2000 connections at once")
    return Finding("limits", OK, f"A process may open {'any number of' if hard == resource.RLIM_INFINITY else hard} files.")


def clock() -> Finding:
    """Whether somebody keeps the clock right: times in logs, and when keys expire, depend on it."""
    now = time.time()
    if now < _YEAR_2024:
        text = f"The clock says {time.strftime('%Y-%m-%d', time.gmtime(now))}."
        return Finding("clock", BAD, text, "Set it, and let NTP keep it: keys expire by it.")
    timex = ctypes.create_string_buffer(512)  # struct timex with modes 0: only ask
    if prctl.libc.adjtimex(timex) == _TIME_ERROR:
        hint = "Let systemd-timesyncd, chrony or ntpd keep it."
        return Finding("clock", LIMIT, "Nobody synchronizes the clock.", hint, "times that agree with other hosts'")
    return Finding("clock", OK, "The clock is synchronized.")


def user() -> Finding:
    """Who this is, and so what projects can run as."""
    me = users.own()
    if os.geteuid() != 0:
        text = f"This is {me.name}: projects run as {me.name}, too."
        return Finding("user", LIMIT, text, "An agent that runs as root can give each its own.", "a `user` of a project's own")
    return Finding("user", OK, "This is root: a project may have a `user` of its own.")


def folder(store: StoreLayout) -> Finding:
    """The store's folder: whose it is, who may enter it, whether programs may run from it."""
    try:
        found = os.stat(store.root)
    except OSError as error:
        return Finding("store", BAD, f"{store.root}: {error.strerror}.", "Start the agent once, or name its store with --store.")
    if found.st_uid != os.geteuid():
        return Finding("store", BAD, f"{store.root} belongs to uid {found.st_uid}.", "Run doctor as that user (sudo -u).")
    if stat.S_IMODE(found.st_mode) & 0o066:
        mode = stat.S_IMODE(found.st_mode)
        return Finding("store", BAD, f"{store.root} has mode {mode:04o}: others see into it.", f"chmod 0700 {store.root}")
    if os.statvfs(store.root).f_flag & os.ST_NOEXEC:
        return Finding("store", BAD, f"{store.root} is mounted noexec: no project's program can run.", "Use another --store.")
    return Finding("store", OK, f"{store.root}, mode {stat.S_IMODE(found.st_mode):04o}.")


def secrets(store: StoreLayout) -> Finding:
    """The files with keys: for their owner alone."""
    paths = [path for path in (store.token, store.keys) if os.path.exists(path)]
    trouble = keys.trouble(store) if os.access(store.config, os.R_OK) else None
    if trouble is not None:
        return Finding("keys", BAD, trouble.detail, trouble.hint or "", "the admin's calls")
    loose = [path for path in paths if stat.S_IMODE(os.stat(path).st_mode) & 0o077]
    if loose:
        return Finding("keys", BAD, f"{' and '.join(loose)}: others may read the keys.", f"chmod 0600 {' '.join(loose)}")
    if not paths:
        return Finding("keys", OK, "There are no keys yet; the first start makes one.")
    return Finding("keys", OK, f"Only their owner reads {' and '.join(os.path.basename(path) for path in paths)}.")


def disk(store: StoreLayout) -> Finding:
    """Room for releases and logs, and how long a file takes to be safe (every launch waits for a few)."""
    if not os.path.isdir(store.root) or not os.access(store.root, os.W_OK):
        return Finding("disk", BAD, f"{store.root} can't be written.", "See the finding on the store.")
    space = files.free_space(store.root)
    text = f"{space.free_bytes / 1e9:.1f} GB and {space.free_inodes} inodes are free"
    if space.free_bytes < _SPARE_BYTES or space.free_inodes < 10_000:
        hint = "Free some, or kill with --purge what is not needed: launches are refused (507) before the disk is full."
        return Finding("disk", BAD, f"Only {text}.", hint)
    path, started = f"{store.root}/.doctor.{os.getpid()}", time.monotonic()
    files.write_atomically(path, b"doctor", durable=True)
    took = time.monotonic() - started
    os.unlink(path)
    if took > _SLOW_SYNC_SECONDS:
        return Finding("disk", LIMIT, f"{text}; a synced write took {took:.2f} s.", "A faster disk helps.", "quick launches")
    return Finding("disk", OK, f"{text}; a synced write took {1000 * took:.0f} ms.")


def port(store: StoreLayout, address: Tuple[str, int]) -> Finding:
    """Whether the agent has its address, or could have it."""
    place = f"{address[0]}:{address[1]}"
    lock = store.project(AGENT_PROJECT).shim_lock
    if os.path.exists(lock) and os.access(lock, os.R_OK | os.W_OK) and locks.is_held(lock):
        return Finding("port", OK, f"The agent of this store runs, on {place}.")
    try:
        with socket.create_connection(address, timeout=2):
            hint = "End it, or start the agent with another --listen."
            return Finding("port", BAD, f"Somebody else listens on {place}, and no agent of this store runs.", hint)
    except OSError:
        return Finding("port", BAD, f"No agent runs; {place} is free.", "Start it: python3 ant-host-agent.pyz")


def unit() -> Finding:
    """Whether a reboot brings the agent back, and a stop of the service leaves the projects alone."""
    lost = "coming back after a reboot"
    if shutil.which("systemctl") is None or not os.path.isdir("/run/systemd/system"):
        return Finding("boot", LIMIT, "This host has no systemd.", "Let its own init start `ant-host-agent.pyz serve`.", lost)
    scope = [] if os.geteuid() == 0 else ["--user"]
    names = ("UnitFileState", "KillMode", "Delegate")
    asked = ["systemctl", *scope, "show", _UNIT, *(f"--property={name}" for name in names)]
    lines = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stdout.splitlines()
    found = dict(line.partition("=")[::2] for line in lines)
    if found.get("UnitFileState") != "enabled":
        return Finding("boot", LIMIT, f"No {_UNIT} is enabled.", "`ant-host-agent.pyz install` writes and enables one.", lost)
    if found.get("KillMode") != "process":
        text = f"{_UNIT} has KillMode={found.get('KillMode')}: stopping it would kill the projects."
        return Finding("boot", BAD, text, "Write KillMode=process, or let `ant-host-agent.pyz install` write it.")
    return Finding("boot", OK, f"{_UNIT} is enabled: a reboot brings back the agent, and it the projects.")


#: Every check that asks nothing of a store.
OF_THE_HOST: Tuple[Callable[[], Finding], ...] = (python, kernel, control_groups, descriptors, clock, user, unit)
