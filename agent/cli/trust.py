"""Whom a client trusts over https: what it was told, else this host's own agent by its very certificate, else the system."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Mapping, Optional

from agent.config import ENVIRONMENT_PREFIX, ServeConfig, default_store
from agent.store.layout import StoreLayout

if TYPE_CHECKING:
    import ssl


def find_trust(
    url: str, ca: Optional[str] = None, client_cert: Optional[str] = None, store: Optional[str] = None,
    environ: Mapping[str, str] = os.environ,
) -> Optional[ssl.SSLContext]:  # fmt: skip
    """What to call that URL with; None for plain http. UsageError for a file that can't be used."""
    if not url.lower().startswith("https:"):
        return None
    from agent.host.certificates import client_context  # OpenSSL is loaded by those who need it

    ca = ca or environ.get(ENVIRONMENT_PREFIX + "CA")
    client_cert = client_cert or environ.get(ENVIRONMENT_PREFIX + "CLIENT_CERT")
    own = None if ca else _own_certificate(url, store, environ)
    return client_context(ca or own, client_cert, is_pinned=own is not None)


def _own_certificate(url: str, store: Optional[str], environ: Mapping[str, str]) -> Optional[str]:
    """The certificate file of this host's agent, if that is whom the URL means and we may read it."""
    layout = StoreLayout(os.path.abspath(store or environ.get(ENVIRONMENT_PREFIX + "STORE") or default_store(environ)))
    try:
        with open(layout.config, "rb") as file:
            config = ServeConfig.from_json({**json.load(file), "store": layout.root})
    except (OSError, ValueError):
        return None
    is_ours = url.rstrip("/") == config.url
    return config.tls_cert if is_ours and config.tls_cert and os.access(config.tls_cert, os.R_OK) else None
