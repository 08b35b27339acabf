"""A real browser: Debian's headless Chromium, driven over WebDriver (W3C Recommendation) with http.client and nothing else."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from typing import Any, Dict, List, Optional, Tuple

from tests.support import processes
from tests.support.wait import eventually

#: Before `eventually` stretches it; a browser starts slowly on a small, busy machine.
DEADLINE_SECONDS = 30.0

#: No sandbox: a test run may be root's, or be in a container. The rest keeps Chromium from calling anybody by itself.
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions", "--mute-audio",
    "--no-default-browser-check", "--password-store=basic", "--hide-scrollbars", "--force-device-scale-factor=1",
)  # fmt: skip
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the name that the specification gives a reference


def find_browser() -> Optional[Tuple[str, str]]:
    """The paths of chromium and chromedriver, None unless both are here."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


class WebDriverError(Exception):
    """What the driver refused: `no such element`, `javascript error`, …"""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Browser:
    """One browser with one window and a profile of its own."""

    def __init__(self, browser: str, driver: str) -> None:
        self._folder = tempfile.mkdtemp(prefix="ant-browser-")
        self._log = os.path.join(self._folder, "driver.log")
        environ = {"PATH": os.defpath, "HOME": self._folder, "LANG": "C.UTF-8", "TMPDIR": self._folder}
        with open(self._log, "wb") as log:
            self._driver = subprocess.Popen(
                [driver, "--port=0"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ, start_new_session=True
            )
        try:
            port = eventually(self._port, DEADLINE_SECONDS, self.log)
            self._address = ("127.0.0.1", int(port))
            options = {"binary": browser, "args": [*_FLAGS, f"--user-data-dir={self._folder}/profile"]}
            wanted = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}
            self._session = "/session/" + self._command("POST", "/session", {"capabilities": wanted})["sessionId"]
            self._call("POST", "/timeouts", {"script": 60_000, "pageLoad": 120_000, "implicit": 0})
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the driver and every process of the browser, and remove the profile."""
        self._driver.send_signal(signal.SIGKILL)
        self._driver.wait(DEADLINE_SECONDS)
        eventually(self._is_gone, DEADLINE_SECONDS, "the end of the browser")
        shutil.rmtree(self._folder, ignore_errors=True)

    def log(self) -> str:
        """What the driver printed."""
        with open(self._log, errors="replace") as file:
            return file.read()[-4000:]

    def go(self, url: str) -> None:
        """Open a page; returns when it has loaded."""
        self._call("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script (the body of a function) returns in the page."""
        return self._call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script: str, *arguments: Any) -> Any:
        """The first true result of a script. AssertionError, with what the page shows, at the deadline."""
        seen = lambda: f"{script}\n{self.text()}\n{self.console()}"  # noqa: E731
        return eventually(lambda: self.run(script, *arguments), DEADLINE_SECONDS, seen)

    def text(self, selector: str = "body") -> str:
        """What a person reads there."""
        return str(self.run("return (document.querySelector(arguments[0]) || {}).innerText || ''", selector))

    def find(self, selector: str) -> Dict[str, str]:
        """A reference to the one element; WebDriverError when there is none."""
        found: Dict[str, str] = self._call("POST", "/element", {"using": "css selector", "value": selector})
        return found

    def click(self, selector: str) -> None:
        """Scroll to an element and click on it, as soon as it can be: what is covered, moving or disabled can't."""
        ready = "const found = document.querySelector(arguments[0]); return found && !found.disabled && found.checkVisibility()"
        self.wait(ready, selector)

        def clicked() -> bool:
            try:
                self._call("POST", f"/element/{self.find(selector)[_ELEMENT]}/click", {})
            except WebDriverError as error:
                if error.code in ("element click intercepted", "stale element reference", "element not interactable"):
                    return False
                raise
            return True

        eventually(clicked, DEADLINE_SECONDS, f"a click on {selector}")

    def write(self, selector: str, text: str) -> None:
        """Type into an element; of an `<input type=file>` it is the path."""
        self._call("POST", f"/element/{self.find(selector)[_ELEMENT]}/value", {"text": text})

    def press(self, key: str) -> None:
        """One key, to whatever has the focus: "\\ue004" is Tab, "\\ue007" Enter, "\\ue00c" Escape."""
        actions = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self._call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def emulate(self, width: int, height: int, scheme: str) -> None:
        """A screen of this size in CSS pixels, and what `prefers-color-scheme` says."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.devtools("Emulation.setDeviceMetricsOverride", **size)
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def devtools(self, command: str, **parameters: Any) -> Any:
        """One command of the DevTools protocol."""
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def screenshot(self) -> bytes:
        """The visible part of the page as a PNG."""
        return base64.b64decode(self._call("GET", "/screenshot"))

    def console(self) -> List[str]:
        """What the page's console got since the last call: errors, and breaches of its policy."""
        entries = self._call("POST", "/se/log", {"type": "browser"})
        return [f"{entry['level']}: {entry['message']}" for entry in entries]

    def _is_gone(self) -> bool:
        left = processes.mentioning(self._folder)  # it is in all their environments
        processes.kill_all(left)
        return not left

    def _port(self) -> str:
        assert self._driver.poll() is None, self.log()
        found = re.search(r"started successfully on port (\d+)", self.log())
        return found[1] if found else ""

    def _call(self, method: str, path: str, document: Optional[Dict[str, Any]] = None) -> Any:
        return self._command(method, self._session + path, document)

    def _command(self, method: str, path: str, document: Optional[Dict[str, Any]] = None) -> Any:
        body = None if document is None else json.dumps(document).encode()
        connection = http.client.HTTPConnection(*self._address, timeout=2 * DEADLINE_SECONDS)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            value = json.loads(answer.read())["value"]
        finally:
            connection.close()
        if answer.status != 200:
            raise WebDriverError(value["error"], value["message"])
        return value
