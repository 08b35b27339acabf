"""Secrets: what a project needs and no artifact holds. Set before or after a launch; read by the project, never by a caller."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, Tuple

from agent.errors import Conflict, NotFound
from agent.host import files, locks
from agent.operations.agent import Agent, changing, forget_if_unused
from agent.store import releases, secrets
from agent.store.layout import ProjectLayout


def put(agent: Agent, project: str, name: str, value: bytes) -> Tuple[int, Dict[str, Any]]:
    """(201 | 200, reply). A project that is not launched yet may have its secrets first. Conflict, StorageFull."""
    layout = agent.handle(project).layout
    with _present(layout):
        is_new = secrets.put(layout, name, value)
    return 201 if is_new else 200, {"status": "SecretSet" if is_new else "SecretReplaced", "project": project, "name": name}


def delete(agent: Agent, project: str, name: str) -> Dict[str, Any]:
    """The reply, which warns when the current release needs it. NotFound."""
    handle = agent.handle(project)
    if not _delete(handle.layout, name):
        raise NotFound(f"{project} has no secret {name!r}.", f"GET /project/{project}/secrets lists them.", project=project)
    version = releases.current(handle.layout)
    release = releases.read(handle.layout, version) if version else None
    is_needed = release is not None and name in release.secrets
    if handle.want() is None:
        with contextlib.suppress(Conflict, NotFound), changing(handle, "delete a secret", "a call"):  # or another forgets it
            forget_if_unused(handle)
    warnings = [f"The manifest of {project} {version} names {name}: it can't be launched again without."] if is_needed else []
    return {"status": "SecretDeleted", "project": project, "name": name, "warnings": warnings}


@contextlib.contextmanager
def _present(layout: ProjectLayout) -> Iterator[None]:
    """For the block the project's folder is there, and no purge takes it away."""
    with contextlib.ExitStack() as stack:
        while True:
            files.make_directory(layout.root)
            try:
                stack.enter_context(locks.hold(layout.want_lock))
                break
            except FileNotFoundError:  # it was purged just now
                continue
        yield


def _delete(layout: ProjectLayout, name: str) -> bool:
    with contextlib.suppress(FileNotFoundError), locks.hold(layout.want_lock):
        return secrets.delete(layout, name)
    return False


def names(agent: Agent, project: str) -> Dict[str, Any]:
    """`{"project", "secrets": [name, …]}`, never a value. NotFound for a project without a launch and without secrets."""
    found = secrets.names(agent.handle(project).layout)
    if not found:
        agent.known(project)
    return {"project": project, "secrets": found}
