"""Clients that call all at once while something goes wrong: no lie, no lost line, nothing left over.

The brief ones have a fixed number of calls and strikes each, so that a slow machine takes longer and sees no more of either.
The long ones and that of a full disk are run by hand (ANT_SLOW=1); for the long ones ANT_CHAOS_CALLS (a client) and
ANT_CHAOS_SEED choose how long and which.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Iterator

import pytest

import build
from tests.chaos.clients import VERBS, Supply, plan, supply
from tests.chaos.disturbances import BRIEF_CALLS, STRIKES, Clock, Disk, Killer, Strikes
from tests.chaos.scenario import CLIENTS, SEED, lose_power, play
from tests.support.agent import AgentHost
from tests.support.clock import bend
from tests.support.disk import PoweredDisk, SmallDisk

pytestmark = [pytest.mark.e2e, pytest.mark.newest]

#: The brief ones' seeds: of the processes that are killed, of the clock, of the disk, of the strangers.
KILLS, CLOCK, DISK, STRANGERS = 1, 2, 3, 4


@pytest.fixture
def chaos_host(pyz: str, python: str) -> Iterator[AgentHost]:
    with AgentHost(pyz, python) as host:
        yield host


def test_the_brief_ones_have_every_call() -> None:
    supplied = Supply({}, {"one": "", "two": ""})
    planned = [call for number in range(CLIENTS) for call in plan(number, KILLS, BRIEF_CALLS, supplied)]
    assert {call.verb for call in planned} == {*VERBS, "upgrade"}
    assert len({call.argument for call in planned if call.verb == "upgrade"}) == 2


def test_briefly_our_own_processes_are_killed(chaos_host: AgentHost, pyz: str) -> None:
    play(chaos_host, supply(chaos_host, pyz, True), [Strikes(chaos_host, KILLS, STRIKES)], KILLS, calls=BRIEF_CALLS)


def test_briefly_the_clock_jumps(pyz: str, python: str) -> None:
    host = AgentHost(pyz, python)
    host.pyz = bend(pyz, host)
    with host:
        strikes = Strikes(host, CLOCK, STRIKES, Clock(host, CLOCK), 15)
        play(host, supply(host, pyz, False), [strikes], CLOCK, calls=BRIEF_CALLS)


@pytest.mark.slow
@pytest.mark.needs_root
def test_briefly_the_disk_is_full(pyz: str, python: str) -> None:
    with SmallDisk(pyz, python, "size=150m") as host:
        strikes = Strikes(host, DISK, STRIKES, Disk(host, DISK), 10)
        play(host, supply(host, pyz, False), [strikes], DISK, is_whole=False, calls=BRIEF_CALLS)


@pytest.mark.needs_root
def test_briefly_pids_are_used_again_by_strangers(pyz: str, python: str) -> None:
    move_in(pyz, python, str(STRANGERS), str(BRIEF_CALLS))


@pytest.mark.slow
@pytest.mark.parametrize("has_agents", [False, True], ids=["kills", "kills-and-upgrades"])
def test_our_own_processes_are_killed(chaos_host: AgentHost, pyz: str, has_agents: bool) -> None:
    play(chaos_host, supply(chaos_host, pyz, has_agents), [Killer(chaos_host, SEED)], SEED)


@pytest.mark.slow
def test_the_clock_jumps(pyz: str, python: str) -> None:
    host = AgentHost(pyz, python)
    host.pyz = bend(pyz, host)
    with host:
        play(host, supply(host, pyz, False), [Clock(host, SEED), Killer(host, SEED)], SEED)


@pytest.mark.slow
@pytest.mark.needs_root
@pytest.mark.parametrize("is_killed", [False, True], ids=["alone", "and-kills"])
def test_the_disk_is_full(pyz: str, python: str, is_killed: bool) -> None:
    with SmallDisk(pyz, python, "size=150m") as host:
        kills = [Killer(host, SEED)] if is_killed else []
        play(host, supply(host, pyz, False), [Disk(host, SEED), *kills], SEED, is_whole=False)


#: A first process that reaps whoever it inherits, as any host has one.
FIRST = ("sh", "-c", '"$@"; exit $?', "first")
NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
#: Whether the next pid can be chosen there.
CHOOSE = ("sh", "-c", "echo 1000 >/proc/sys/kernel/ns_last_pid")


def move_in(pyz: str, python: str, *words: str) -> None:
    """Play in a namespace of processes: tests.chaos.strangers."""
    if subprocess.run([*NAMESPACE, *CHOOSE], stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("needs a namespace of processes")
    played = subprocess.run(
        [*NAMESPACE, *FIRST, sys.executable, "-m", "tests.chaos.strangers", pyz, python, *words], cwd=build.ROOT, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert played.returncode == 0, played.stdout


@pytest.mark.slow
@pytest.mark.needs_root
def test_pids_are_used_again_by_strangers(pyz: str, python: str) -> None:
    move_in(pyz, python, str(SEED))


@pytest.mark.slow
@pytest.mark.needs_root
def test_the_power_is_cut(pyz: str, python: str) -> None:
    with PoweredDisk(pyz, python) as host:
        lose_power(host, supply(host, pyz, False), SEED, boots=3)
