"""What the promises of the chaos come to, each as a question to what was seen; no process and no call is in here.

Whether an order of the calls explains all answers (what was answered is so; what was not is carried out whole, or not at all)
is asked in `history`.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

_LINE = re.compile(rb"(\S+ \d+) (\d+)")
#: The call may be sent again later, and the answer says when.
_LATER = (429, 503)


def find_hole(output: bytes) -> Optional[str]:
    """What is wrong with it, unless each run's numbers are there from 0 on, each once and in order, and no run goes on beside
    the next one."""
    run, following = b"", 0
    for line in output.splitlines():
        match = _LINE.fullmatch(line)
        if match is not None and match[2] == b"0":
            run, following = match[1], 1
        elif match is not None and (match[1], int(match[2])) == (run, following):
            following += 1
        else:
            return f"{line!r} where line {following} of run {run.decode()!r} was to come"
    return None


def whole_lines(output: bytes) -> bytes:
    """Without the beginning of a line whose rest may be on its way: from one segment to the next, or held up with its shim."""
    return output[: output.rfind(b"\n") + 1]


def runs_in(output: bytes) -> List[bytes]:
    """The runs that have said something, in their order."""
    return [line.rpartition(b" ")[0] for line in output.splitlines() if line.endswith(b" 0")]


def unhelpful(status: int, headers: Mapping[str, str], problem: Mapping[str, Any]) -> List[str]:
    """What a refusal does not tell: what happened, and where it is not the caller's fault what to do and when."""
    missing = [name for name in ("type", "title", "detail") if not problem.get(name)]
    if problem.get("status") != status:
        missing.append(f"its status {status}")
    if status in (409, 422, *_LATER, 507) and not problem.get("hint"):
        missing.append("hint")
    if status in _LATER and not headers.get("retry-after", "").isdigit():
        missing.append("Retry-After")
    return [f"{status} does not tell {', '.join(missing)}: {dict(problem)}"] if missing else []


def was_disturbed(before: Mapping[str, Any], after: Mapping[str, Any]) -> Optional[str]:
    """What happened, by its status before and after, to a project that nobody called; None if it ran on."""
    names = ("pid", "run", "started_at", "version", "want", "state", "restarts")
    changed = [name for name in names if before[name] != after[name]]
    return f"{', '.join(changed)}: {[(before[name], after[name]) for name in changed]}" if changed else None


def find_disorder(
    record: Mapping[str, Any], wanted: str, current: Optional[str], shims: Sequence[int], agents: Sequence[int],
    staging: Sequence[str], strangers: Sequence[str],
) -> List[str]:  # fmt: skip
    """What of the agent's own is not as it is at rest: its record, the wanted release, the link `current`, the processes that
    are its shim and its agent, what lies in staging/, projects that nobody has launched."""
    facts: Dict[str, Tuple[object, object]] = {
        "state": (record["state"], "ready"), "successor": (record["successor"], None), "version": (record["version"], wanted),
        "current": (current, f"releases/{wanted}"), "shims": (list(shims), [(record["shim"] or {}).get("pid")]),
        "agents": (list(agents), [record["pid"]]), "staging": (list(staging), []), "further projects": (list(strangers), []),
    }  # fmt: skip
    return [f"{name}: {found}, not {right}" for name, (found, right) in facts.items() if found != right]


def find_secret(secret: bytes, files: Mapping[str, bytes]) -> List[str]:
    """The paths of the files that hold it."""
    return [path for path, content in files.items() if secret in content]
