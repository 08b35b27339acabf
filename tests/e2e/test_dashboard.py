"""The dashboard in a real browser. One interpreter is enough: the page is the same bytes on each."""

from __future__ import annotations

import os
from typing import Iterator

import pytest

from tests.support import artifact
from tests.support.agent import AGENT, AgentHost
from tests.support.browser import Browser, WebDriverError, find_browser

TAB, ENTER, ESCAPE = "\ue004", "\ue007", "\ue00c"
HOSTILE = b"#!/bin/sh\necho '<img src=x onerror=\"window.hit=1\"><script>window.hit=1</script>'\nexec sleep 1000000\n"

#: The lowest contrast (WCAG 2.2, 1.4.3) of all text that the page shows now, and where it is.
LOWEST_CONTRAST = """
const rgb = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
const linear = (value) => value / 255 <= .04045 ? value / 255 / 12.92 : ((value / 255 + .055) / 1.055) ** 2.4;
const light = ([red, green, blue]) => .2126 * linear(red) + .7152 * linear(green) + .0722 * linear(blue);
const behind = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const color = rgb(getComputedStyle(at).backgroundColor);
    if (color.length === 3 || color[3] === 1) return color;
  }
  return [255, 255, 255];
};
let lowest = [21, ""];
for (const node of document.querySelectorAll("body *")) {
  const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
  if (!own || !node.checkVisibility() || node.closest("noscript") || node.disabled) continue;
  const [a, b] = [light(rgb(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
  const ratio = (a + .05) / (b + .05);
  if (ratio < lowest[0]) lowest = [ratio, node.outerHTML.slice(0, 200)];
}
return lowest;
"""
#: What a screen reader could only call "button" or "edit text".
NAMELESS = """
return [...document.querySelectorAll("button, input, select, [role=region], dialog, section, article")].filter((node) =>
  !(node.getAttribute("aria-label") || node.textContent.trim() && node.matches("button") || (node.labels || []).length
    || document.getElementById(node.getAttribute("aria-labelledby")))).map((node) => node.outerHTML.slice(0, 200));
"""
#: A file dropped on the page, as an operating system would hand it over.
DROP = """
const data = new DataTransfer();
data.items.add(new File([arguments[0]], arguments[1]));
document.body.dispatchEvent(new DragEvent("dragover", {dataTransfer: data, bubbles: true, cancelable: true}));
document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
"""


@pytest.fixture(scope="module")
def browser(newest_host: AgentHost) -> Iterator[Browser]:
    """A browser that has answered the prompt for a key once, as a person does."""
    programs = find_browser()
    if programs is None:
        pytest.skip("chromium is not installed")
    try:
        window = Browser(*programs)
    except (WebDriverError, AssertionError) as error:
        print(error)
        pytest.skip("chromium does not start here")
    with window:
        window.go(newest_host.url.replace("://", f"://any-name:{newest_host.token}@"))
        window.console()
        yield window


@pytest.fixture
def page(browser: Browser, newest_host: AgentHost) -> Iterator[Browser]:
    """The page, freshly loaded. Afterwards its console must hold no error: no breach of the policy, no exception."""
    browser.emulate(1200, 900, "light")
    browser.go(newest_host.url + "/")
    browser.wait("return document.querySelector('article')")
    yield browser
    for project in newest_host.projects():
        if project != AGENT:
            newest_host.kill(project, grace_seconds=0, purge="true")
    assert [line for line in browser.console() if "Failed to load resource" not in line] == []


def _state(project: str, state: str) -> str:
    return f"return document.querySelector('[data-project={project}] .state')?.textContent === '{state}'"


def _says(selector: str, text: str) -> str:
    return f'return (document.querySelector("{selector}") || {{}}).textContent?.includes({text!r})'


def _launch(page: Browser, path: str, project: str) -> None:
    page.write("#artifact", path)
    page.run("document.getElementById('project').value = ''")
    page.write("#project", project)
    page.click("#launch-button")


def test_nobody_gets_it_without_a_key(newest_host: AgentHost) -> None:
    refusal = newest_host.request("GET", "/", key=None)
    assert refusal.status == 401
    assert refusal.headers["www-authenticate"].startswith("Basic ")


def test_launch_by_file_input_and_live_logs(page: Browser, newest_host: AgentHost) -> None:
    _launch(page, artifact.pack("cron_like", newest_host.artifacts), "ticks")
    page.wait(_says("#verdict", "is up (ready, pid"))
    page.wait(_state("ticks", "ready"))
    assert "MB" in page.text("[data-project=ticks] .memory")
    page.click("[data-project=ticks] [data-view=logs]")
    page.wait(_says("[data-project=ticks] pre", "wake 1: tweeted"))
    shown = page.run("return document.querySelector('[data-project=ticks] pre').textContent.split('\\n').length")
    more = "return document.querySelector('[data-project=ticks] pre').textContent.split('\\n').length > arguments[0] + 5"
    page.wait(more, shown)


def test_kill_restart_and_roll_back_by_keyboard(page: Browser, newest_host: AgentHost) -> None:
    for version in ("1", "2"):
        path = artifact.pack("hello", newest_host.artifacts, "tar.gz", {"version": version})
        assert newest_host.launch("web", path).status == 201
    page.wait(_state("web", "ready"))
    _press(page, "kill")
    page.wait(_says("[data-project=web] .verdict", "web is down; "))
    page.wait(_state("web", "exited"))
    _press(page, "restart")
    page.wait(_says("[data-project=web] .verdict", "web 2 is up"))
    _press(page, "rollback")
    page.wait(_says("[data-project=web] .verdict", "web 1 is up again"))
    page.wait(_says("[data-project=web] .release", "version 1"))
    page.click("[data-project=web] [data-view=history]")
    page.wait("return document.querySelectorAll('[data-project=web] tbody tr').length >= 4")
    assert "rollback" in page.text("[data-project=web] tbody")
    assert newest_host.status("web")["version"] == "1"


def _press(page: Browser, act: str) -> None:
    """Focus a button, Enter; then Escape must close the dialog and give the focus back; then Enter on what confirms."""
    button = f"[data-project=web] [data-act={act}]"
    page.wait("const found = document.querySelector(arguments[0]); return found && !found.disabled", button)
    page.run("document.querySelector(arguments[0]).focus()", button)
    page.press(ENTER)
    page.wait("return document.getElementById('confirm').open")
    page.press(ESCAPE)
    page.wait("return !document.getElementById('confirm').open && document.activeElement.matches(arguments[0])", button)
    page.press(ENTER)
    page.wait("return document.getElementById('confirm').open")
    for _ in range(4):
        if page.run("return document.activeElement.id") == "confirm-yes":
            break
        page.press(TAB)
    assert page.run("return document.activeElement.id") == "confirm-yes"
    page.press(ENTER)


def test_a_dropped_file_is_launched_and_its_failure_explained(page: Browser, newest_host: AgentHost) -> None:
    page.run(DROP, "#!/bin/sh\necho the reason is this >&2\nexit 7\n", "Broken_thing-1.2.sh")
    page.wait(_says("#verdict", "Broken_thing-1.2.sh"))
    assert page.run("return document.getElementById('project').value") == "broken-thing"
    page.click("#launch-button")
    page.wait(_says("#verdict", "exited with code 7"))
    page.wait(_says("#verdict pre", "the reason is this"))


def test_what_a_project_prints_stays_text(page: Browser, newest_host: AgentHost) -> None:
    path = os.path.join(newest_host.artifacts, "hostile.sh")
    with open(path, "wb") as file:
        file.write(HOSTILE)
    _launch(page, path, "hostile")
    page.wait(_state("hostile", "ready"))
    page.click("[data-project=hostile] [data-view=logs]")
    page.wait(_says("[data-project=hostile] pre", "onerror="))
    assert page.run("return [document.querySelectorAll('pre *').length, window.hit]") == [0, None]


def test_the_policy_lets_nothing_else_run(page: Browser) -> None:
    added = """
    window.addEventListener("securitypolicyviolation", (event) => { window.breach = event.violatedDirective; });
    try { const tag = document.createElement("script"); tag.text = "window.hit = 1"; document.head.append(tag); }
    catch (error) { window.breach = error.name; }
    """
    page.run(added)
    page.wait("return window.breach")
    assert page.run("return window.hit") is None
    page.console()  # the breach is in there


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_on_a_phone_and_by_everybody(page: Browser, newest_host: AgentHost, scheme: str) -> None:
    assert newest_host.launch_fixture("web", "hello").status == 201
    assert newest_host.launch_fixture("broken", "fails_at_start").status == 422
    page.emulate(360, 740, scheme)
    page.wait(_state("web", "ready"))
    for view in ("logs", "history"):
        page.click(f"[data-project=web] [data-view={view}]")
    page.wait(_says("[data-project=web] pre", "hello from web"))
    page.wait("return document.querySelector('[data-project=web] tbody tr')")
    ratio, where = page.run(LOWEST_CONTRAST)
    assert ratio >= 4.5, (ratio, where)
    assert page.run(NAMELESS) == []
    assert page.run("return document.scrollingElement.scrollWidth") <= 360
    assert page.run("return document.querySelectorAll('main, header, h1').length") == 3
