"""Every archive of fixtures/archives/ is uploaded: 422 with its reason, and the host is as it was."""

from __future__ import annotations

import os
from typing import Dict

import pytest

from tests.support import archives, artifact
from tests.support.agent import AgentHost

pytestmark = [pytest.mark.e2e, pytest.mark.newest]


def files_of(host: AgentHost) -> Dict[str, int]:
    """Every file and folder of the store and beside it, with its inode, but for what a refusal is written into."""
    found = {}
    for folder, folders, names in os.walk(host.base):
        for name in (*folders, *names):
            path = os.path.join(folder, name)
            found[os.path.relpath(path, host.base)] = os.lstat(path).st_ino
    return {path: inode for path, inode in found.items() if "/ant-host-agent/" not in path and not path.startswith("artifacts/")}


def test_t08_hostile_archives_leave_nothing_behind(own_host: AgentHost) -> None:
    host = own_host
    assert host.launch_fixture("hostile", "hello", version="1").status == 201
    pid = host.status("hostile")["pid"]
    host.launch("new", artifact.write(archives.every()[0].data(), "x", host.artifacts))  # it made audit.jsonl
    before = files_of(host)
    wrong: Dict[str, str] = {}
    for number, archive in enumerate(archives.every()):
        project = "hostile" if number % 2 else "new"
        answer = host.launch(project, artifact.write(archive.data(), "x", host.artifacts))
        if answer.status != 422 or archive.refused not in answer.json["detail"] or answer.json["step"] != "unpack":
            wrong[str(archive)] = str(answer)
    assert wrong == {}
    assert host.staging() == []
    assert files_of(host) == before
    assert host.projects() == ["ant-host-agent", "hostile"]
    assert host.status("hostile")["pid"] == pid, "the old release runs on"
