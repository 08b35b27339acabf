"""The dashboard: one page made of three files, and a policy under which nothing else runs on it or frames it."""

from __future__ import annotations

import base64
import hashlib
import pkgutil
from dataclasses import dataclass
from typing import Mapping


@dataclass(frozen=True)
class Page:
    """A page for browsers, with the headers that protect it."""

    body: bytes
    headers: Mapping[str, str]


def _file(name: str) -> bytes:
    data = pkgutil.get_data("agent.web", f"page/{name}")
    if data is None:
        raise FileNotFoundError(f"agent/web/page/{name} is not in this build")
    return data


def _source(content: bytes) -> str:
    """How a Content-Security-Policy names what stands between two tags (CSP3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'"


def _make() -> Page:
    style, script = _file("dashboard.css"), _file("dashboard.js")
    body = _file("dashboard.html").replace(b"<style></style>", b"<style>" + style + b"</style>")
    body = body.replace(b"<script></script>", b"<script>" + script + b"</script>")
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    headers = {
        "Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }  # fmt: skip
    return Page(body, headers)


#: Made once, at the start: a zipapp that was replaced meanwhile could not be read any more.
DASHBOARD = _make()
