"""The calls that watch: metrics to be scraped, events as they happen."""

from __future__ import annotations

from typing import Any, Dict

from agent.web.answers import EVENTS, METRICS
from agent.web.call import Call
from agent.web.route import Answer, Content
from agent.web.streams import Sending


def metrics(call: Call) -> Answer:
    """The text that Prometheus scrapes."""
    return Content(call.services.operations.metrics(call.services.agent), METRICS)


def events(call: Call) -> Answer:
    """What happens from now on, or after the `Last-Event-ID`, to the projects that the key is for."""
    project = call.values.get("project")

    def is_wanted(event: Dict[str, Any]) -> bool:
        about = str(event.get("project"))
        return project in (None, about) and call.identity.may_see(about)

    last = str(call.environ.get("HTTP_LAST_EVENT_ID", ""))
    return Sending(call.services.operations.events(call.services.agent, last, is_wanted), EVENTS)
