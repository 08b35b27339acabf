"""What an agent does whose own shims all end before they take charge: it gives way to the release before it."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from agent.model import AGENT_PROJECT
from agent.operations.agent import Agent, remember
from agent.operations.own import BUNDLE, quarantine
from agent.store import releases

_REASON = "its shims ended before they took charge"


def fall_back(agent: Agent) -> Optional[str]:
    """Want the release before this one; the path of its bundle, whose shim will see to it. None when there is none."""
    handle = agent.handle(AGENT_PROJECT)
    want = handle.want()
    if want is None or want.version is None or want.fallback in (None, want.version):
        return None
    failed, good = (releases.read(handle.layout, str(version)) for version in (want.version, want.fallback))
    if failed is None or good is None:
        return None
    quarantine(agent.store, failed.digest, failed.version, _REASON)
    by = f"the agent itself: {failed.version} was reverted, {_REASON}"
    wanted = replace(want, version=good.version, fallback=None, concluded=False, by=by)
    handle.change_want(lambda last: wanted if last is None or last.version == want.version else last)
    remember(handle, "reverted", version=failed.version, reason=_REASON)
    return f"{handle.layout.release(good.version)}/{BUNDLE}"
