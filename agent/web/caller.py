"""Who calls: a key's name, role and projects, the address; and what that permits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

from agent.errors import Forbidden
from agent.model import ADMIN, AGENT_PROJECT, READ, ROLES
from agent.operations.canary import CANARY


@dataclass(frozen=True)
class Caller:
    """`projects`: the exact names that it may work on, None for all of them."""

    name: str
    role: str
    projects: Optional[Tuple[str, ...]]
    address: str

    def __str__(self) -> str:
        return f"{self.name} from {self.address}"

    def may_see(self, project: str) -> bool:
        """Whether it may know of this project."""
        return self.projects is None or project in self.projects

    def require_role(self, role: str, what: str) -> None:
        """Forbidden unless the key's role is this one or one that may do more."""
        if ROLES.index(self.role) < ROLES.index(role):
            raise Forbidden(
                f"The key {self.name!r} may only {self.role}, and {what} needs the role {role}.",
                "Use a key with that role: 'ant-host-agent.pyz token add' on the host makes one.", role=self.role, needed=role,
            )  # fmt: skip

    def require_project(self, project: str, role: str, what: str) -> None:
        """Forbidden for a project that is none of the key's, and for changing the agent itself without the role admin."""
        if not self.may_see(project):
            raise Forbidden(
                f"The key {self.name!r} may not work on {project}.",
                f"It may work on: {', '.join(self.projects or ()) or 'no project'}.", project=project,
            )  # fmt: skip
        if project in (AGENT_PROJECT, CANARY) and role != READ:
            self.require_role(ADMIN, f"{what} of the agent itself")

    def require_whole_host(self, what: str) -> None:
        """Forbidden for a key that is limited to some projects."""
        if self.projects is not None:
            raise Forbidden(
                f"The key {self.name!r} is limited to some projects, and {what} is about the whole host.",
                f"It may work on: {', '.join(self.projects) or 'no project'}.",
            )  # fmt: skip
