"""The family tree of processes, out of a list of them; and this very process, as the kernel tells of it."""

from __future__ import annotations

import os
from typing import Dict, List

from hypothesis import given
from hypothesis import strategies as st

from agent.host import procfs
from agent.host.procfs import Process


def family(**children: str) -> List[Process]:
    """`family(p1="2 3")`: processes 2 and 3 are children of 1."""
    return [Process(int(pid), int(parent[1:]), "S", 100 + int(pid)) for parent, pids in children.items() for pid in pids.split()]


def pids(found: List[Process]) -> List[int]:
    return [process.pid for process in found]


def test_descendants_come_with_parents_first() -> None:
    among = family(p10="20 30", p20="21 22", p21="23", p1="10 99")
    assert pids(procfs.descendants([10], among)) == [20, 30, 21, 22, 23]


def test_a_parent_may_have_a_higher_pid_than_its_child() -> None:
    assert pids(procfs.descendants([10], family(p500="11", p10="500"))) == [500, 11]


def test_a_root_is_not_below_itself() -> None:
    assert procfs.descendants([10], family(p1="10")) == []
    assert procfs.descendants([77], family(p1="10")) == []
    assert procfs.descendants([], family(p1="10")) == []


def test_each_is_found_once_below_several_roots() -> None:
    among = family(p10="20", p11="21", p20="30")
    assert sorted(pids(procfs.descendants([10, 11, 20], among))) == [20, 21, 30]


def test_a_circle_of_stale_parents_comes_to_an_end() -> None:
    assert sorted(pids(procfs.descendants([10], family(p10="20", p20="30", p30="20")))) == [20, 30]


@given(st.lists(st.integers(1, 30), max_size=30))
def test_exactly_what_leads_up_to_the_root_is_below_it(parents: List[int]) -> None:
    """Process n + 2 has some process up to n + 1 as its parent, so all lead to 1."""
    parent_of: Dict[int, int] = {index + 2: 1 + parent % (index + 1) for index, parent in enumerate(parents)}
    among = [Process(pid, parent, "S", 0) for pid, parent in parent_of.items()]
    found = pids(procfs.descendants([2], reversed(among)))
    assert sorted(found) == [pid for pid in parent_of if 2 in ancestors(pid, parent_of)]
    assert all(parent_of[pid] == 2 or found.index(parent_of[pid]) < found.index(pid) for pid in found)


def ancestors(pid: int, parent_of: Dict[int, int]) -> List[int]:
    found = []
    while pid in parent_of:
        pid = parent_of[pid]
        found.append(pid)
    return found


def test_this_process_as_the_kernel_tells_of_it() -> None:
    own = procfs.process(os.getpid())
    assert own is not None and own.ppid == os.getppid()
    assert procfs.start_time(own.pid) == own.start_time
    assert procfs.is_alive(own.pid, own.start_time)
    assert not procfs.is_alive(own.pid, own.start_time + 1)
    assert own.pid in pids(procfs.processes())
    assert "python" in procfs.command(own.pid) or "pytest" in procfs.command(own.pid)


def test_what_does_not_exist() -> None:
    nobody = 2**22 + 1  # above the highest pid_max (proc(5))
    assert procfs.process(nobody) is None
    assert procfs.start_time(nobody) is None
    assert procfs.command(nobody) == ""
    assert not procfs.has_environment(nobody, b"A=1")


def test_an_entry_of_an_environment_is_whole_or_not_there() -> None:
    with open("/proc/self/environ", "rb") as stream:
        entry = stream.read().split(b"\0")[0]
    assert procfs.has_environment(os.getpid(), entry)
    assert not procfs.has_environment(os.getpid(), entry + b"x")
    assert not procfs.has_environment(os.getpid(), entry[:-1] + b"\x01")


def test_the_boot_has_one_id() -> None:
    assert len(procfs.boot_id()) == 36
    assert procfs.boot_id() == procfs.boot_id()
