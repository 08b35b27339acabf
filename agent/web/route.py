"""What a call is: method, path, what it reads, what a key needs for it; and how one is found.

The table itself is routes.py. Admission, Bottle and the API's description all go by it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Pattern, Sequence, Tuple, Union

from agent.errors import MethodNotAllowed, NotFound
from agent.model import ADMIN, parse_project
from agent.store.logtar import LogTar
from agent.web.call import Call, Fields
from agent.web.caller import Caller
from agent.web.dashboard import Page
from agent.web.streams import Sending

NONE, JSON, BYTES, UPLOAD = "none", "json", "bytes", "upload"
PING = "/ping"


@dataclass(frozen=True)
class Content:
    """A whole text of some type."""

    text: str
    content_type: str


#: A handler's answer: a JSON document with its status, a tar, plain text, other text, a page, or what is sent as it comes.
Answer = Union[Tuple[int, Dict[str, Any]], LogTar, str, Content, Page, Sending]


@dataclass(frozen=True)
class Route:
    """One method and path. `query` and `fields`: what its query and JSON body may hold; `required`: what they must.

    `role`: what a key must be allowed to; a route that says nothing is the admin's. `for_limited_keys`: a key of some
    projects only may call it without naming one of them, since the answer tells nothing of the others.
    """

    name: str
    method: str
    path: str
    handler: Callable[[Call], Answer]
    body: str = NONE
    query: Fields = field(default_factory=dict)
    fields: Fields = field(default_factory=dict)
    required: Tuple[str, ...] = ()
    lane: str = "quick"
    role: str = ADMIN
    for_limited_keys: bool = False

    def permit(self, caller: Caller) -> None:
        """Forbidden unless the caller's key may make this call at all."""
        if self.path == PING:
            return
        caller.require_role(self.role, self.name)
        if not self.for_limited_keys and "<project>" not in self.path and "project" not in self.required:
            caller.require_whole_host(self.name)

    def permit_project(self, caller: Caller, project: str) -> None:
        """Forbidden unless it may make it for this project."""
        caller.require_project(project, self.role, self.name)

    @property
    def pattern(self) -> Pattern[str]:
        """The path as a regular expression; `<name>` is one segment."""
        return re.compile(re.sub(r"<(\w+)>", r"(?P<\1>[^/]+)", re.escape(self.path)))


class RouteTable:
    """Finds a call by method and path, as Bottle's router does (HEAD is answered by GET's handler)."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = [(route.pattern, route) for route in routes]

    def match(self, method: str, path: str) -> Tuple[Route, Optional[str]]:
        """The route, and the project if the path names one.

        NotFound, MethodNotAllowed with the methods that the path takes, MalformedRequest for what is no project's id.
        """
        matches = ((route, pattern.fullmatch(path)) for pattern, route in self._routes)
        found = [(route, match.groupdict()) for route, match in matches if match]
        if not found:
            raise NotFound(f"There is nothing at {path[:200]!r}.", "README lists the calls; paths have no slash at the end.")
        for route, arguments in found:
            if route.method == ("GET" if method == "HEAD" else method):
                return route, parse_project(arguments["project"]) if "project" in arguments else None
        allow: List[str] = sorted({name for route, _ in found for name in (route.method, _head(route)) if name})
        raise MethodNotAllowed(f"{path[:200]} does not take {method[:20]}.", f"Use {' or '.join(allow)}.", allow=allow)


def _head(route: Route) -> str:
    return "HEAD" if route.method == "GET" else ""
