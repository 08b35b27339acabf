"""`install` and `uninstall`: have the host run the agent from its boot on, or no longer."""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import shutil
import subprocess
import sys
from typing import List, Optional

from agent.cli.printing import print_json
from agent.cli.trust import find_trust
from agent.cli.units import elsewhere, systemd_unit
from agent.client import Client, find_local
from agent.config import OPTIONS, ServeConfig, parse_serve
from agent.errors import AgentError, AlreadyRunning, UsageError
from agent.host import files, locks
from agent.model import AGENT_PROJECT
from agent.store.layout import StoreLayout

STORE = "/var/lib/ant-host-agent"
#: Where the file is copied to: it may be run from where somebody clears up, or from a release that is pruned one day.
PLACE = f"/usr/local/lib/{AGENT_PROJECT}/{AGENT_PROJECT}.pyz"
UNIT = f"/etc/systemd/system/{AGENT_PROJECT}.service"
ENABLED = f"/etc/systemd/system/multi-user.target.wants/{AGENT_PROJECT}.service"

EPILOG = f"""\
The file is copied to {PLACE}, and a systemd unit starts it
now and at each boot: as the release that was launched last, if the agent has been upgraded since.
Without systemd it prints which line to put where. Running it again changes what is installed.

  sudo python3 ant-host-agent.pyz install
  sudo python3 ant-host-agent.pyz install --user deploy --listen 127.0.0.1:4500
"""
UNINSTALL_EPILOG = "Projects run on and the store stays, unless --purge says otherwise.\n"
_JOURNAL = f"`journalctl -u {AGENT_PROJECT} -n 50` shows what it said."


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `install` takes: what `serve` takes, and for whom."""
    parser.add_argument("--user", metavar="NAME", help="run the agent, and so all projects, as this user instead of root")
    parser.add_argument("--no-start", action="store_true", help="start it at the next boot only")
    parser.add_argument("--root", metavar="DIR", default="", help="install into the file system below DIR, as of an image")
    for name, metavar in OPTIONS.items():
        if name in ("store", "token_file"):  # every verb has these
            continue
        flag = "--" + name.replace("_", "-")
        if metavar is None:
            parser.add_argument(flag, action="store_true", help="as for `serve`")
        else:
            parser.add_argument(flag, metavar=metavar, help="as for `serve`")


def uninstall_arguments(parser: argparse.ArgumentParser) -> None:
    """What `uninstall` takes."""
    parser.add_argument("--purge", action="store_true", help="kill all projects and delete the store, too")


def run(args: argparse.Namespace) -> int:
    """Install, enable, start."""
    from agent.operations.bootstrap import own_bundle

    words = serve_words(args)
    config, bundle = parse_serve(words, {}), own_bundle()
    _check(args, config)
    command = [sys.executable, "-I", "-S", PLACE, "boot", *words]
    _write(args.root + PLACE, files.read_bytes(bundle) or b"", 0o755)
    if not _has_systemd(args.root):
        reply = {"status": "Installed", "file": PLACE, "unit": None, "command": command}
        print_json(reply) if args.json else print(elsewhere(command, args.user), end="")
        return 0
    _write(args.root + UNIT, systemd_unit(command, args.user).encode(), 0o644)
    files.make_directory(os.path.dirname(args.root + ENABLED), 0o755)
    files.swap_symlink(args.root + ENABLED, UNIT)
    starts = not args.root and not args.no_start
    if not args.root:
        _systemctl("daemon-reload")
    if starts:
        _systemctl("restart", UNIT.rpartition("/")[2])
    if args.json:
        print_json({"status": "Installed", "file": PLACE, "unit": UNIT, "command": command})
    else:
        print(f"ant-host-agent is installed: {UNIT} starts {PLACE} at each boot.")
        print(f"It runs: {config.url}, admin key in {config.token_file}" if starts else "It has not been started.")
    return 0


def run_uninstall(args: argparse.Namespace) -> int:
    """Stop it and take away what `install` has made."""
    _require_root("uninstall")
    store = os.path.abspath(args.store or STORE)
    if args.purge:
        _purge_projects(store, args.ca, args.client_cert)
    was_installed = os.path.exists(PLACE) or os.path.exists(UNIT)
    if os.path.exists(UNIT):
        if _has_systemd(""):
            _systemctl("stop", UNIT.rpartition("/")[2])
        for path in (ENABLED, UNIT):
            files.remove_if_present(path)
        if _has_systemd(""):
            _systemctl("daemon-reload")
    if os.path.isdir(os.path.dirname(PLACE)):
        shutil.rmtree(os.path.dirname(PLACE))
    if args.purge:
        _remove_store(store)
    left = "" if args.purge else f" Projects run on; {store} is as it was."
    if args.json:
        print_json({"status": "Uninstalled" if was_installed else "NotInstalled", "store": None if args.purge else store})
    else:
        print(("ant-host-agent is no longer installed." if was_installed else "It was not installed.") + left)
    return 0


def serve_words(args: argparse.Namespace) -> List[str]:
    """The words of `serve` that the unit is to have, every path absolute."""
    words = ["--store", os.path.abspath(args.store or STORE)]
    for name, metavar in OPTIONS.items():
        value = getattr(args, name)
        if name == "store" or not value:
            continue
        flag = "--" + name.replace("_", "-")
        words += [flag] if metavar is None else [flag, os.path.abspath(value) if metavar == "FILE" else value]
    return words


def _check(args: argparse.Namespace, config: ServeConfig) -> None:
    """UsageError or AlreadyRunning before anything is changed."""
    if args.root:
        if args.user:
            hint = "That system's users are not known here: leave one of the two out."
            raise UsageError("--user can't be had together with --root.", hint)
        return
    _require_root("install")
    if args.user:
        _give_store(config.store, args.user)
    lock = StoreLayout(config.store).project(AGENT_PROJECT).shim_lock
    if os.path.exists(lock) and locks.is_held(lock) and not _is_active():
        raise AlreadyRunning(
            f"An agent that was started by hand serves {config.store}.",
            f"Stop it first, its projects run on: 'ant-host-agent.pyz stop --store {config.store}'.",
        )


def _give_store(store: str, name: str) -> None:
    try:
        user = pwd.getpwnam(name)
    except KeyError as error:
        hint = f"Make it first: 'useradd --system {name}'."
        raise UsageError(f"--user: there is no user {name!r} on this host.", hint) from error
    if not os.path.isdir(store):
        files.make_directory(store)
        os.chown(store, user.pw_uid, user.pw_gid)
    elif os.stat(store).st_uid != user.pw_uid:
        raise UsageError(
            f"{store} belongs to uid {os.stat(store).st_uid}, not to {name}.",
            f"Choose another one with --store, or give it away: 'chown -R {name}: {store}'.",
        )


def _require_root(verb: str) -> None:
    if os.geteuid() != 0:
        raise UsageError(
            f"`{verb}` changes what the host runs, so only root can do it; this is uid {os.geteuid()}.",
            "Run it with sudo. Without root, `serve` runs an agent for as long as you like.",
        )


def _has_systemd(root: str) -> bool:
    """Whether systemd runs this host (sd_booted(3)), or will run the one below `root`."""
    if not root:
        return os.path.isdir("/run/systemd/system")
    return any(os.path.exists(f"{root}/{folder}/systemd/systemd") for folder in ("usr/lib", "lib"))


def _is_active() -> bool:
    return _has_systemd("") and _run_systemctl("is-active", "--quiet", UNIT.rpartition("/")[2]).returncode == 0


def _systemctl(*words: str) -> None:
    done = _run_systemctl(*words)
    if done.returncode != 0:
        raise AgentError(f"`systemctl {' '.join(words)}` failed: {done.stderr.strip() or 'it does not say why'}", _JOURNAL)


def _run_systemctl(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


def _write(path: str, data: bytes, mode: int) -> None:
    try:
        files.make_directory(os.path.dirname(path), 0o755)
        files.write_atomically(path, data, mode=mode)
        os.chmod(path, mode)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}.", "Check the disk and who may write there.") from error


def _purge_projects(store: str, ca: Optional[str], client_cert: Optional[str]) -> None:
    url, token = find_local(environ={}, store=store)
    if not os.path.isdir(store):
        return
    agent = Client(url, token, tls=find_trust(url, ca, client_cert, store))
    for project in agent.describe()["projects"]:
        if project["project"] != AGENT_PROJECT:
            agent.kill(project["project"], purge=True)


def _remove_store(store: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(store)
