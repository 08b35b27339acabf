"""README's configurations of nginx and haproxy, each with the real one in front of a real agent."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from http.client import HTTPSConnection
from pathlib import Path
from typing import Callable, Dict, Iterator, Tuple

import pytest

from tests.support import artifact, http
from tests.support.agent import AgentHost
from tests.support.authority import Authority
from tests.support.http import Response
from tests.support.wait import eventually

pytestmark = pytest.mark.e2e

README = Path(__file__).resolve().parents[2] / "README.md"
#: language of the block → its text
BLOCKS: Dict[str, str] = dict(re.findall(r"```(nginx|haproxy)\n(.*?)```", README.read_text(), re.DOTALL))
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


class Proxy:
    """One in front of the agent: its address, and calls over TLS."""

    def __init__(self, host: AgentHost, port: int, authority: Authority) -> None:
        self.host = host
        self.address: Tuple[str, int] = ("127.0.0.1", port)
        self.tls = authority.trusted_by()

    def call(self, method: str, path: str, body: http.Body = None, **headers: str) -> Response:
        key = {"Authorization": f"Bearer {self.host.token}"}
        return http.request(self.address, method, path, body, {**key, **headers}, self.tls)

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.call("GET", "/ping").body == b"pong"
        return False


def nginx(folder: Path, config: str) -> list[str]:
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    whole = f"pid {folder}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}{config}}}\n"
    (folder / "config").write_text(whole)
    return ["nginx", "-p", str(folder), "-c", str(folder / "config"), "-g", "daemon off; master_process off;"]


def haproxy(folder: Path, config: str) -> list[str]:
    (folder / "config").write_text(config)
    return ["haproxy", "-db", "-f", str(folder / "config")]


@pytest.fixture(scope="module", params=[nginx, haproxy])
def proxy(request: pytest.FixtureRequest, pyz: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    prepare: Callable[[Path, str], list[str]] = request.param
    name = prepare.__name__
    if shutil.which(name, path=PATH) is None:
        pytest.skip(f"{name} is not installed")
    folder = tmp_path_factory.mktemp(name)
    authority = Authority(folder / "authority")
    pem, port = authority.issue("proxy"), http.free_port()
    with AgentHost(pyz, os.path.realpath(sys.executable)) as host:
        config = BLOCKS[name].replace("127.0.0.1:4499", "{}:{}".format(*host.address)).replace(":443", f":{port}")
        config = config.replace("/etc/ssl/agent/key.pem", str(pem)).replace("/etc/ssl/agent/cert.pem", str(pem))
        config = config.replace("/etc/ssl/agent/both.pem", str(pem))
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(
                prepare(folder, config), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={"PATH": PATH}
            )
        try:
            made = Proxy(host, port, authority)
            eventually(lambda: process.poll() is not None or made.answers(), 60, (folder / "output").read_text)
            assert process.poll() is None, (folder / "output").read_text()
            yield made
        finally:
            process.terminate()
            process.wait(60)


def test_without_a_key_only_ping(proxy: Proxy) -> None:
    assert proxy.answers()
    assert http.request(proxy.address, "GET", "/project", tls=proxy.tls).status == 401


def test_upload_launch_and_kill(proxy: Proxy) -> None:
    """More than a proxy would keep in memory, and more than the nginx of a distribution lets through by itself."""
    bulky = artifact.encode({"run.sh": (b"#!/bin/sh\nexec sleep 1000\n", 0o755), "ballast": (os.urandom(24 << 20), 0o644)}, "tar")
    launched = proxy.call("POST", "/project?project=bulky", bulky, **{"Content-Type": "application/octet-stream"})
    assert launched.status == 201, launched
    assert launched.json["pid"] == proxy.host.status("bulky")["pid"]
    killed = proxy.call("DELETE", "/project/bulky?purge=true")
    assert launched.json["pid"] in [entry["pid"] for entry in killed.json["killed"]]


def test_logs_are_followed_as_they_come(proxy: Proxy) -> None:
    assert proxy.host.launch_fixture("ticks", "cron_like").status == 201
    connection = HTTPSConnection(*proxy.address, timeout=60, context=proxy.tls)
    try:
        key = {"Authorization": f"Bearer {proxy.host.token}"}
        connection.request("GET", "/project/ticks/logs?format=text&follow=true", headers=key)
        answer = connection.getresponse()
        assert answer.status == 200
        came = b""
        while came.count(b"wake ") < 4:  # a proxy that buffers would keep these few bytes until the end, which never comes
            data = answer.read1(65536)
            assert data, came
            came += data
        answer.close()
    finally:
        connection.close()
    assert proxy.call("GET", "/project/ticks/logs").body[:5] == b"ticks"
    assert proxy.call("DELETE", "/project/ticks?purge=true").status == 200
