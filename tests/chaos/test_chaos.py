"""Clients that call all at once while something goes wrong: no lie, no lost line, nothing left over.

ANT_CHAOS_CALLS (a client) and ANT_CHAOS_SEED choose how long and which. It is slow, so CI runs it with ANT_SLOW=1 only.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Iterator

import pytest

import build
from tests.chaos.clients import supply
from tests.chaos.disturbances import Clock, Disk, Killer
from tests.chaos.scenario import SEED, lose_power, play
from tests.support.agent import AgentHost
from tests.support.clock import bend
from tests.support.disk import PoweredDisk, SmallDisk

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.newest]


@pytest.fixture
def chaos_host(pyz: str, python: str) -> Iterator[AgentHost]:
    with AgentHost(pyz, python) as host:
        yield host


@pytest.mark.parametrize("has_agents", [False, True], ids=["kills", "kills-and-upgrades"])
def test_our_own_processes_are_killed(chaos_host: AgentHost, pyz: str, has_agents: bool) -> None:
    play(chaos_host, supply(chaos_host, pyz, has_agents), [Killer(chaos_host, SEED)], SEED)


def test_the_clock_jumps(pyz: str, python: str) -> None:
    host = AgentHost(pyz, python)
    host.pyz = bend(pyz, host)
    with host:
        play(host, supply(host, pyz, False), [Clock(host, SEED), Killer(host, SEED)], SEED)


@pytest.mark.needs_root
@pytest.mark.parametrize("is_killed", [False, True], ids=["alone", "and-kills"])
def test_the_disk_is_full(pyz: str, python: str, is_killed: bool) -> None:
    with SmallDisk(pyz, python, "size=150m") as host:
        kills = [Killer(host, SEED)] if is_killed else []
        play(host, supply(host, pyz, False), [Disk(host, SEED), *kills], SEED, is_whole=False)


#: A first process that reaps whoever it inherits, as any host has one.
FIRST = ("sh", "-c", '"$@"; exit $?', "first")
NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@pytest.mark.needs_root
def test_pids_are_used_again_by_strangers(pyz: str, python: str) -> None:
    if subprocess.run([*NAMESPACE, "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("needs a namespace of processes")
    played = subprocess.run(
        [*NAMESPACE, *FIRST, sys.executable, "-m", "tests.chaos.strangers", pyz, python], cwd=build.ROOT, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert played.returncode == 0, played.stdout


@pytest.mark.needs_root
def test_the_power_is_cut(pyz: str, python: str) -> None:
    with PoweredDisk(pyz, python) as host:
        lose_power(host, supply(host, pyz, False), SEED, boots=3)
