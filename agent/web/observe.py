"""The calls that watch: metrics to be scraped, events as they happen."""

from __future__ import annotations

import re
from typing import Any, Dict

from agent.errors import MalformedRequest
from agent.store.events import ID
from agent.web.answers import EVENTS, METRICS
from agent.web.call import PROJECT, Call, Field, Fields
from agent.web.route import Answer, Content
from agent.web.streams import Sending


def _read_id(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(ID, value):
        raise MalformedRequest(f"from: {value!r:.40} is no id of an event.", "Send the last `id` that the stream told.")
    return value


EVENT_FIELDS: Fields = {"project": PROJECT, "from": Field(_read_id, {"type": "string", "pattern": f"^{ID}$"})}


def metrics(call: Call) -> Answer:
    """The text that Prometheus scrapes."""
    return Content(call.services.operations.metrics(call.services.agent), METRICS)


def events(call: Call) -> Answer:
    """What happens from now on, or after an event by its id, to the projects that the key is for."""
    project = call.values.get("project")

    def is_wanted(event: Dict[str, Any]) -> bool:
        about = str(event.get("project"))
        return project in (None, about) and call.identity.may_see(about)

    last = str(call.environ.get("HTTP_LAST_EVENT_ID", call.values.get("from", "")))
    return Sending(call.services.operations.events(call.services.agent, project, last, is_wanted), EVENTS)
