"""TLS certificates of this host: read, checked and turned into what OpenSSL needs. Imported only where TLS is wanted."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Tuple

from agent.errors import UsageError

_PARTIAL_CHAIN = 0x80000  # X509_V_FLAG_PARTIAL_CHAIN: what is trusted need not be a root
_PRIORITIZE_CHACHA = 0x200000  # SSL_OP_PRIORITIZE_CHACHA: clients without AES instructions say so by their order


@dataclass(frozen=True)
class Certificate:
    """Paths of PEM files: the server's chain, its key, and the authority whose certificates clients must have, if any."""

    chain: str
    key: str
    client_ca: Optional[str] = None

    def context(self) -> ssl.SSLContext:
        """A server's context: TLS 1.2 and later. UsageError that names the file that is at fault."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | _PRIORITIZE_CHACHA
        context.set_alpn_protocols(["http/1.1"])
        for option, path in (("--tls-cert", self.chain), ("--tls-key", self.key), ("--tls-client-ca", self.client_ca)):
            _require_readable(option, path)
        try:
            # an encrypted key would ask for its password on the terminal, for ever
            context.load_cert_chain(self.chain, self.key, password=lambda: b"")
        except (OSError, ValueError) as error:
            raise UsageError(
                f"--tls-cert {self.chain} and --tls-key {self.key} can't be used: {_reason(error)}.",
                "Both are PEM: the certificate with its chain, and its own key without a password. `tls-init` makes a pair.",
            ) from error
        if self.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            _trust(context, "--tls-client-ca", self.client_ca)
        return context


def client_context(ca: Optional[str], own: Optional[str] = None, is_pinned: bool = False) -> ssl.SSLContext:
    """A client's context. `ca`: a PEM file of what to trust instead of the system's authorities; `own`: a PEM file with the
    client's own certificate and key. Pinned: the server must have that very certificate, whatever its name. UsageError."""
    _require_readable("--ca", ca)
    _require_readable("--client-cert", own)
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = not is_pinned
        context.verify_flags |= _PARTIAL_CHAIN
        _trust(context, "--ca", ca)
    if own is not None:
        try:
            context.load_cert_chain(own, password=lambda: b"")
        except (OSError, ValueError) as error:
            hint = "It is a PEM file with the certificate and its key, without a password."
            raise UsageError(f"--client-cert {own} can't be used: {_reason(error)}.", hint) from error
    return context


def names(certificate: Optional[Mapping[str, Any]]) -> Tuple[str, ...]:
    """The names of a verified peer certificate, as SSLSocket.getpeercert() gives it: subjectAltName, then common name."""
    if not certificate:
        return ()
    alternative = [value for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "URI", "email")]
    common = [value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName"]
    return tuple(dict.fromkeys([*alternative, *common]))


def prove(context: ssl.SSLContext) -> None:
    """A handshake with ourselves in memory, as far as the server's own part of it goes. AgentError's cause: ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.check_hostname, asking.verify_mode = False, ssl.CERT_NONE
    client, server = asking.wrap_bio(to_client, to_server), context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue


def _trust(context: ssl.SSLContext, option: str, path: str) -> None:
    try:
        context.load_verify_locations(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{option} {path} can't be used: {_reason(error)}.", "It is a PEM file of certificates.") from error


def _require_readable(option: str, path: Optional[str]) -> None:
    if path is not None and not (os.path.isfile(path) and os.access(path, os.R_OK)):
        raise UsageError(f"{option} {path} can't be read by {os.geteuid()}.", "Check the path, and who may read the file.")


def _reason(error: Exception) -> str:
    """OpenSSL's words without its own numbers and source lines."""
    reason = getattr(error, "reason", None)
    return str(reason).lower().replace("_", " ") if reason else str(getattr(error, "strerror", None) or error)
