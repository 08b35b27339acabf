"""Upload of 1 GiB as multipart/form-data, beside the bare receiver and beside the raw upload of the same run."""

from __future__ import annotations

import os
from typing import List

from tests.bench import wire
from tests.bench.figure import Figure
from tests.bench.rows.upload_raw import PROJECT, Body, digest, raw_body, run
from tests.bench.setting import Setting
from tests.support.agent import AgentHost

_BOUNDARY = "----bench-boundary-7d9f1c"


def measure(setting: Setting) -> List[Figure]:
    """As upload_raw, in the other shape."""
    with setting.host() as host:
        path = wire.sparse_program(os.path.join(host.artifacts, PROJECT), setting.large_bytes)
        ours = run(setting, host, path, _multipart_body(host, path))
        raw = run(setting, host, path, raw_body(host, path))
    return [
        Figure("receive, digest included", "s", ours.received, raw.received, "the same as a raw body", "≤ 1.5x"),
        Figure("receive, digest included", "s", ours.received, [*ours.bare, *raw.bare], "recv + write, nothing hashed"),
        Figure("peak RSS of the agent", "MB", ours.peaks, goal="≤ 40 MB"),
        Figure("disk at its peak / size", "copies", ours.copies, goal="1"),
    ]


def _multipart_body(host: AgentHost, path: str) -> Body:
    before = ""
    for name, value in (("project", PROJECT), ("sha256", digest(path))):
        before += f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
    before += (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="artifact"; filename="{PROJECT}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    after = f"\r\n--{_BOUNDARY}--\r\n"
    length = len(before) + os.path.getsize(path) + len(after)
    headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}", "Content-Length": str(length)}
    return wire.head(host, "POST", "/project", headers) + before.encode(), after.encode()
