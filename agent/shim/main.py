"""A shim's beginning and end: the agent's own by exec, a project's by a fork of that one."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from typing import List, NoReturn

from agent.errors import EXIT_AGENT_FAULT, EXIT_OK
from agent.host import clock, files, prctl
from agent.model import AGENT_PROJECT
from agent.shim import machine
from agent.shim.nursery import Nursery
from agent.shim.supervise import Shim
from agent.store.layout import StoreLayout


def main(arguments: List[str]) -> int:
    """`shim STORE NAME=FD…`: the agent's own shim. Passed to it are `lock`, and what a dead shim held: `http`, `control`."""
    store = StoreLayout(arguments[0])
    passed = {name: int(fd) for name, _, fd in (argument.partition("=") for argument in arguments[1:])}
    for fd in passed.values():
        os.set_inheritable(fd, False)
    passed.pop("lock")  # held by its descriptor, for as long as this process lives
    if "control" in passed and os.fork():
        os._exit(EXIT_OK)  # started by the agent: not to be its child, or stopping the agent would stop this, too
    os.environ.clear()
    prctl.set_subreaper()
    nursery = Nursery(store, passed.pop("control", None), run_project)
    shim = Shim(store.project(AGENT_PROJECT), passed, nursery)
    gc.collect()
    gc.freeze()  # forked shims share these pages for as long as nobody writes to them
    shim.run()
    if shim.record.state == machine.FAILED:
        sys.stderr.write(f"ant-host-agent: {shim.record.explanation}\n  Its output is in {shim.layout.logs}\n")
        return EXIT_AGENT_FAULT
    return EXIT_OK


def run_project(store: StoreLayout, project: str) -> NoReturn:
    """In a child forked for it: be that project's shim until nothing is left to do. Never returns."""
    layout = store.project(project)
    try:
        os.setsid()
        os.chdir("/")
        prctl.set_subreaper()
        prctl.set_title(f"ant-host-agent shim {project}")
        Shim(layout, {}).run()
        os._exit(EXIT_OK)
    except BaseException:
        line = {"at": clock.timestamp(), "event": "shim_failed", "traceback": traceback.format_exc()}
        files.append_line(layout.events, line, 1 << 20)
    finally:
        os._exit(EXIT_AGENT_FAULT)
