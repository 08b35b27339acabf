"""The chaos has to be able to fail: an agent that breaks one promise is told from one that keeps all.

By hand (ANT_SLOW=1), since each plays until somebody notices.
"""

from __future__ import annotations

from typing import Dict

import pytest

from tests.chaos.clients import supply
from tests.chaos.disturbances import BRIEF_CALLS, STRIKES, Strikes
from tests.chaos.scenario import play
from tests.support import bundles
from tests.support.agent import AgentHost
from tests.support.bundles import Change

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.newest]

_ANEW = b'''
    seen = vars(_see_to).setdefault("seen", set())
    if want.up and handle.layout.project not in (AGENT_PROJECT, *seen):
        handle.change_want(lambda last: last)
    seen.add(handle.layout.project)
'''
#: What is broken: by the name of it the change, as the zipapp has it.
MUTATIONS: Dict[str, Change] = {
    "a kill forgets whoever is not the first process": (
        "agent/shim/turn.py", b"if self._is_empty():\n", b"if True:\n",
    ),
    "a launch says ready before it is": (
        "agent/shim/launching.py", b'return bool(found.get("ready"))', b"return True",
    ),
    "a want is dropped: what was killed is wanted again": (
        "agent/operations/kill.py", b"    return ended\n",
        b"    handle.change_want(lambda last: replace(want, up=True))\n    return ended\n",
    ),
    "a line is dropped at a rotation": (
        "agent/shim/capture.py", b"self._begin_segment(self._number + 1)",
        b"os.read(self.reader, 17)\n        self._begin_segment(self._number + 1)",
    ),
    "a rollback goes to the oldest": (
        "agent/operations/rollback.py", b"version = older[-1]", b"version = older[0]",
    ),
    "a restart forgets what ran last": (
        "agent/operations/outcome.py", b"releases.point_current(handle.layout, outcome.version)", b"pass",
    ),
    "a secret gets into the log": (
        "agent/store/secrets.py", b"    temporary = staging",
        b"    import sys; sys.stderr.write(value.decode())\n    temporary = staging",
    ),
    "a project is started again by the shim that finds it without one": (
        "agent/shim/child.py", b"if not same_boot or", b"if True or",
    ),
    "a new agent starts everything anew": (
        "agent/operations/reconcile.py", b"    handle.persist_want()\n",
        b"    handle.persist_want()\n" + _ANEW,
    ),
    "a refusal does not tell what to do": ("agent/errors.py", b"if self.hint:", b"if False:"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_whoever_breaks_a_promise_is_found_out(pyz: str, python: str, name: str) -> None:
    host = AgentHost(pyz, python)
    host.pyz = bundles.release(pyz, host.base, "broken", MUTATIONS[name])
    with pytest.raises(AssertionError) as told, host:
        play(host, supply(host, host.pyz, False), [Strikes(host, 1, STRIKES)], 1, calls=2 * BRIEF_CALLS)
    print(str(told.value)[:500])
