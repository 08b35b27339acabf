"""PM2, from npm: spoken to through its own module, by a driver."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from typing import Any, Dict, Optional, Sequence

from tests.bench.peers.circus import Driver
from tests.bench.peers.peer import Peer
from tests.support import processes

_DRIVER = """
const pm2 = require('pm2');
const answer = (error, value) => console.log(JSON.stringify(error ? {error: String(error.message || error)} : {value}));
pm2.connect(false, (failed) => {
  const ask = (line) => {
    const [verb, argument] = JSON.parse(line);
    if (failed) return answer(failed);
    if (verb === 'start') pm2.start(argument, (error) => answer(error, 'ok'));
    if (verb === 'stop') pm2.stop(argument, (error) => answer(error, 'ok'));
    if (verb === 'describe')
      pm2.describe(argument, (error, list) => answer(error, list.map((p) => p.pm2_env.status)[0] || 'unknown'));
    if (verb === 'list') pm2.list((error, list) => answer(error, list.length));
  };
  require('readline').createInterface({input: process.stdin}).on('line', ask);
});
"""


class Pm2(Peer):
    """Defaults, but for what makes it comparable: no restart delay, one log file a project."""

    name = "PM2"
    _driver: Optional[Driver] = None

    def install(self) -> str:
        if shutil.which("npm") is None:
            raise RuntimeError("npm is not installed")
        with open(f"{self.base}/package.json", "w", encoding="ascii") as file:
            file.write("{}")
        ran = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "pm2"], cwd=self.base, capture_output=True, check=False,
        )  # fmt: skip
        if ran.returncode:
            raise RuntimeError(ran.stderr.decode().strip()[-300:])
        with open(f"{self.base}/node_modules/pm2/package.json", encoding="utf-8") as file:
            return f"PM2 {json.load(file)['version']}"

    def environment(self) -> Dict[str, str]:
        return {**super().environment(), "PM2_HOME": f"{self.base}/daemon", "PATH": os.environ["PATH"]}

    def configure(self) -> None:
        for folder in ("logs", "pids"):  # its own command line makes them, before it starts the daemon
            os.makedirs(f"{self.base}/daemon/{folder}", exist_ok=True)

    def command(self) -> Sequence[str]:
        return ["node", "node_modules/pm2/lib/Daemon.js"]

    def _ask(self, verb: str, argument: object = None) -> Any:
        if self._driver is None:
            self._driver = Driver(["node", "-e", _DRIVER], cwd=self.base, env=self.environment())
        answer = self._driver.ask([verb, argument])
        if "error" in answer:
            self._driver.close()  # one that could not connect never will
            self._driver = None
            raise RuntimeError(answer["error"])
        return answer["value"]

    def start(self) -> None:
        if self._driver is not None:  # it was connected to the one before
            self._driver.close()
            self._driver = None
        super().start()

    def is_answering(self) -> bool:
        if not os.path.exists(f"{self.base}/daemon/rpc.sock"):
            return False
        return int(self._ask("list")) >= 0

    def crash(self) -> None:
        super().crash()
        self._remove_sockets()

    def stop(self) -> None:
        super().stop()
        self._remove_sockets()

    def _remove_sockets(self) -> None:
        for name in ("rpc.sock", "pub.sock"):
            path = f"{self.base}/daemon/{name}"
            if os.path.exists(path):
                os.unlink(path)

    def up(self, project: str) -> None:
        command = self.projects[project]
        log = f"{self.base}/{project}.log"
        self._ask("start", {
            "name": project, "script": command[0], "args": command[1:], "interpreter": "none", "output": log, "error": log,
            "merge_logs": True,
        })  # fmt: skip

    def down(self, project: str) -> None:
        self._ask("stop", project)

    def status(self, project: str) -> str:
        return str(self._ask("describe", project))

    def close(self) -> None:
        if self._driver is not None:
            self._driver.close()
        if self.manager is not None and self.manager.poll() is None:
            self.manager.send_signal(signal.SIGKILL)
        processes.kill_all(processes.mentioning(self.base))
        super().close()
