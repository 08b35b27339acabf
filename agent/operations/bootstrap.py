"""Bootstrap: the agent installs itself as a release of its own project and becomes that project's shim.

After the exec this very process, same pid, is the shim: it holds the listening socket and starts the agent.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from typing import List, NoReturn, Optional

from agent.build import own_build
from agent.config import ServeConfig
from agent.errors import AlreadyRunning, UsageError
from agent.host import connections, files, locks, procfs, sockets
from agent.host.notify import Notifier
from agent.model import AGENT_PROJECT, Release
from agent.operations.own import BUNDLE, describe, install_bundle, quarantined, read_own_manifest
from agent.shim.record import Want, read_record, read_want, write_want
from agent.store import keys, releases
from agent.store.layout import ProjectLayout, StoreLayout


def bootstrap(config: ServeConfig, is_boot: bool = False) -> NoReturn:
    """Never returns. At the boot of a host an upgrade that was launched since this file was installed stays.

    UsageError when the store, the address or the file is unusable. AlreadyRunning when an agent serves this store; `is_same`
    says whether it is to be this very release.
    """
    bundle = own_bundle()
    store = StoreLayout(config.store)
    if config.tls_cert and config.tls_key:
        from agent.host.certificates import Certificate  # OpenSSL is loaded by those who need it

        Certificate(config.tls_cert, config.tls_key, config.tls_client_ca).context()
    _make_store(store, config.token_file)
    layout = store.project(AGENT_PROJECT)
    files.make_directory(layout.root)
    lock = locks.acquire(layout.shim_lock)
    if lock is None:
        if is_boot:
            _defer(layout)
        raise _already_running(layout)
    _require_address(config.listen)
    files.write_json(store.config, config.to_json())
    release = (_at_work(config, layout) if is_boot else None) or _install(store, layout, bundle)
    _want(layout, release.version)
    where = f"{config.scheme}://{config.listen}"
    sys.stderr.write(
        f"ant-host-agent {release.version}: {where}, store {config.store}, "
        + ("no key needed\n" if config.no_auth else f"admin key in {config.token_file}\n")
    )
    become_shim(store, f"{layout.release(release.version)}/{BUNDLE}", lock)


def _defer(layout: ProjectLayout) -> None:
    """Exit if it is fine that another process is this store's shim: the host's service manager has started us because its main
    process was killed, and that one has taken its place in the same service. The manager is told so."""
    record, notifier, unit = read_record(layout), Notifier.of(os.environ), procfs.unit(os.getpid())
    shim = record.shim if record is not None and record.shim else {"pid": 0, "start_time": 0}
    if notifier and unit is not None and procfs.is_alive(shim["pid"], shim["start_time"]) and procfs.unit(shim["pid"]) == unit:
        notifier.send(f"MAINPID={shim['pid']}", "READY=1")
        sys.exit(0)


def _at_work(config: ServeConfig, layout: ProjectLayout) -> Optional[Release]:
    """The release that was at work when this host went down, as it is configured now; None at the first boot of this file."""
    digest = str(own_build().digest).encode()
    version = releases.current(layout) if files.read_bytes(layout.store.installed) == digest else None
    release = releases.read(layout, version) if version is not None else None
    if release is None:
        files.write_atomically(layout.store.installed, digest)
        return None
    release = replace(release, command=(sys.executable, *release.command[1:]), sockets={"http": config.listen})
    releases.commit(layout, release)
    return release


def own_bundle() -> str:
    """The zipapp that this process runs from, all links resolved: a path that may be replaced must not be run from."""
    path = os.path.realpath(sys.argv[0])
    if not zipfile.is_zipfile(path):
        raise UsageError(
            f"{path} is not the zipapp.", "Build it with 'python3 build.py build' and start dist/ant-host-agent.pyz."
        )
    return path


def shim_command(store: StoreLayout, bundle: str, *words: str, **passed: int) -> List[str]:
    """The command line of the agent's own shim, which is passed these descriptors."""
    descriptors = [f"{name}={fd}" for name, fd in passed.items()]
    return [sys.executable, "-I", "-S", bundle, "shim", store.root, *words, *descriptors]


def become_shim(store: StoreLayout, bundle: str, lock: int) -> NoReturn:
    """Execute the shim in this process."""
    os.set_inheritable(lock, True)
    os.execv(sys.executable, shim_command(store, bundle, lock=lock))


def replace_shim(store: StoreLayout, bundle: str, listener: int, control: int) -> bool:
    """Start a new shim from this file for this agent, whose own has died, on the same socket. False if it could not be, or is
    there."""
    lock = locks.acquire(store.project(AGENT_PROJECT).shim_lock)
    if lock is None:
        return False
    command = shim_command(store, bundle, "detach", lock=lock, http=listener, control=control)
    try:
        passed, environ = (lock, listener, control), Notifier.of(os.environ).environment
        started = subprocess.run(command, pass_fds=passed, start_new_session=True, cwd="/", env=environ, check=False)
    except OSError as error:
        sys.stderr.write(f"the shim can't be started: {error}\n")
        return False
    finally:
        os.close(lock)
    return started.returncode == 0


def _already_running(layout: ProjectLayout) -> AlreadyRunning:
    record, want, root = read_record(layout), read_want(layout), layout.store.root
    pid = record.shim["pid"] if record is not None and record.shim else "unknown"
    release = releases.read(layout, want.version) if want is not None and want.version else None
    return AlreadyRunning(
        f"An agent serves {root} already: pid {pid}.",
        f"Stop it with 'ant-host-agent.pyz stop --store {root}', or choose another --store.",
        store=root, pid=pid, is_same=release is None or release.digest == own_build().digest,
    )  # fmt: skip


def _require_address(listen: str) -> None:
    """UsageError, naming who has it, when the address can't be had: before anything changes. The shim binds it for good."""
    try:
        os.close(sockets.listen(listen))
    except OSError as error:
        inode = connections.listening_inode(listen) if error.errno == errno.EADDRINUSE else None
        pid = connections.holder(inode, (process.pid for process in procfs.processes())) if inode is not None else None
        why = f"process {pid} has it ({procfs.command(pid)})" if pid is not None else error.strerror or str(error)
        raise UsageError(
            f"--listen {listen} can't be had: {why}.",
            "Choose another address with --listen, or stop what has this one (an agent: 'ant-host-agent.pyz stop --store DIR').",
        ) from error


def _make_store(store: StoreLayout, token_file: str) -> None:
    try:
        files.make_directory(store.root)
        status = os.stat(store.root)
        # others may pass through once a project has a user of its own (shim/rights.py), and do nothing else
        if status.st_uid != os.geteuid() or status.st_mode & 0o066:
            raise UsageError(
                f"{store.root} must belong to uid {os.geteuid()} and be closed to others; it has uid {status.st_uid} and mode "
                f"{status.st_mode & 0o777:o}.",
                f"Run 'chmod 700 {store.root}' (and chown it), or choose another --store.",
            )
        for directory in (store.staging, store.projects):
            files.make_directory(directory)
        keys.ensure_token(token_file)
    except OSError as error:
        raise UsageError(
            f"The store {store.root} can't be used: {error.filename or store.root}: {error.strerror}.",
            "Choose a directory on a local disk that this user may write, with --store.",
        ) from error


def _install(store: StoreLayout, layout: ProjectLayout, bundle: str) -> Release:
    manifest, digest = read_own_manifest(bundle), str(own_build().digest)
    version, before = manifest["version"], releases.current(layout)
    bad, good = quarantined(store).get(digest), releases.read(layout, before) if before is not None else None
    if bad is not None and good is not None and good.digest != digest:
        sys.stderr.write(f"ant-host-agent {version} failed on this host: {bad['reason']}. {good.version} is started instead.\n")
        return good
    placed = layout.release(version)
    files.make_directory(placed, 0o755)
    installed = releases.read(layout, version)
    if installed is None or installed.digest != digest:
        install_bundle(bundle, placed)
    release, last = describe(store, version, digest, os.path.getsize(bundle), manifest, "bootstrap"), read_want(layout)
    releases.commit(layout, replace(release, generation=last.generation if last is not None else 0))
    return release


def _want(layout: ProjectLayout, version: str) -> None:
    last = read_want(layout)
    before = releases.current(layout)
    fallback = before if before != version and before is not None and releases.read(layout, before) else None
    write_want(layout, Want(True, last.generation + 1 if last else 1, version, fallback))
