"""The chaos has to be able to fail: an agent that breaks one promise is told from one that keeps all.

By hand (ANT_SLOW=1), since each plays until somebody notices.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, Sequence

import pytest

from tests.chaos.clients import supply
from tests.chaos.disturbances import BRIEF_CALLS, STRIKES, Strikes
from tests.chaos.scenario import play
from tests.support import bundles, wait
from tests.support.agent import AgentHost
from tests.support.bundles import Change

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.newest]

_AGAIN = b"    handle.change_want(lambda last: replace(want, up=True))\n    return ended\n"
_ROTATED = b"os.read(self.reader, 17)\n        self._begin_segment(self._number + 1)"
_SAID = b"    import sys; sys.stderr.write(value.decode())\n    temporary = staging"
_ANEW = b'''
    seen = vars(_see_to).setdefault("seen", set())
    if want.up and handle.layout.project not in (AGENT_PROJECT, *seen):
        handle.change_want(lambda last: last)
    seen.add(handle.layout.project)
'''
#: What is broken: by the name of it the changes, as the zipapp has it.
MUTATIONS: Dict[str, Sequence[Change]] = {
    "a kill forgets whoever has left the session": [
        ("agent/shim/tree.py", b"process.pid not in others]", b"process.pid not in others][:1]"),
        ("agent/shim/turn.py", b"return self.seen.childless and", b"return True or"),
    ],
    "a launch says ready before it is": [
        ("agent/shim/launching.py", b'return bool(found.get("ready"))', b"return True"),
    ],
    "a want is dropped: what was killed is wanted again": [
        ("agent/operations/kill.py", b"    return ended\n", _AGAIN),
    ],
    "a line is dropped at a rotation": [
        ("agent/shim/capture.py", b"self._begin_segment(self._number + 1)", _ROTATED),
    ],
    "a rollback goes to the newest": [("agent/operations/rollback.py", b"version = older[-1]", b"version = kept[-1]")],
    "a restart forgets what ran last": [
        ("agent/operations/outcome.py", b"releases.point_current(handle.layout, outcome.version)", b"pass"),
    ],
    "a secret gets into the log": [("agent/store/secrets.py", b"    temporary = staging", _SAID)],
    "a project is started twice when its shim has died": [("agent/shim/child.py", b"if not same_boot or", b"if True or")],
    "a new agent starts everything anew": [
        ("agent/operations/reconcile.py", b"    handle.persist_want()\n", b"    handle.persist_want()\n" + _ANEW),
    ],
    "a refusal does not tell what to do": [("agent/errors.py", b"if self.hint:", b"if False:")],
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_whoever_breaks_a_promise_is_found_out(pyz: str, python: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "PATIENCE", 0.3)  # much of it never comes to rest
    host = AgentHost(pyz, python)
    host.pyz = bundles.release(pyz, host.base, "broken", *MUTATIONS[name])
    with host:
        supplied = replace(supply(host, host.pyz, False), rollbacks=("",))
        with pytest.raises(AssertionError) as told:
            play(host, supplied, [Strikes(host, 1, STRIKES)], 1, calls=2 * BRIEF_CALLS)
        host.end_at_once()  # it may not know how to end
    print(str(told.value)[:500])
