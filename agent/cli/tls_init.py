"""`tls-init`: make a key and a certificate of this host's own, with the openssl that is there."""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import shutil
import socket
import ssl
import subprocess
from typing import List

from agent.cli.printing import print_json
from agent.config import ENVIRONMENT_PREFIX, default_store
from agent.errors import AgentError, UsageError
from agent.host import files

EPILOG = """\
The certificate signs itself: callers are given a copy of it (--ca, curl --cacert), or its pin (curl
--pinnedpubkey). It names this host, localhost, 127.0.0.1 and what --name adds.

  ant-host-agent.pyz tls-init --name agent.example.com
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What `tls-init` takes."""
    parser.add_argument("--name", action="append", default=[], metavar="NAME", help="a name or address it is called by; again…")
    parser.add_argument("--days", type=int, default=825, metavar="N", help="how long it is valid (825)")
    parser.add_argument("--directory", metavar="DIR", help="where cert.pem and key.pem are put (default: `tls` in the store)")
    parser.add_argument("--force", action="store_true", help="make a new pair in place of the one that is there")


def run(args: argparse.Namespace) -> int:
    """Make the pair and say what to do with it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise UsageError(
            "There is no openssl on this host, and Python can't make a certificate.",
            "Install openssl, or make the pair on another machine (`tls-init --directory DIR --name HOST`) and copy it here.",
        )
    store = args.store or os.environ.get(ENVIRONMENT_PREFIX + "STORE") or default_store(os.environ)
    folder = os.path.abspath(args.directory or os.path.join(store, "tls"))
    chain, key = f"{folder}/cert.pem", f"{folder}/key.pem"
    if os.path.exists(key) and not args.force:
        raise UsageError(f"{key} exists.", "Use it, or make a new pair with --force: callers then need the new certificate.")
    files.make_directory(folder)
    _make(openssl, chain, key, args.days, names(args.name))
    pin = _pin(openssl, chain)
    if args.json:
        print_json({"status": "Made", "tls_cert": chain, "tls_key": key, "pin": pin})
    else:
        print(f"{chain} and {key} are made. Start the agent with\n  --tls-cert {chain} --tls-key {key}")
        print(f"Callers trust it with --ca and a copy of cert.pem, or with curl --pinnedpubkey '{pin}' -k.")
    return 0


def names(further: List[str]) -> str:
    """The subjectAltName of a certificate for this host (x509v3_config(5)). UsageError for what is no name."""
    own = socket.gethostname()
    given: List[str] = []
    for name in dict.fromkeys([*further, own, "localhost", "127.0.0.1", "::1"]):
        if not name or set(name) & set(",:\n") - set(":" if _is_address(name) else ""):
            raise UsageError(f"--name {name!r} is neither a name nor an address.", "Write for example agent.example.com.")
        given.append(f"{'IP' if _is_address(name) else 'DNS'}:{name}")
    return "subjectAltName=" + ",".join(given)


def _is_address(name: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, name)
            return True
        except OSError:
            continue
    return False


def _make(openssl: str, chain: str, key: str, days: int, alternative: str) -> None:
    """Both files appear whole, the key first, closed to everybody else from its first byte on."""
    made, made_key = f"{chain}.{os.getpid()}.tmp", f"{key}.{os.getpid()}.tmp"
    before = os.umask(0o077)
    try:
        _run(
            openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256",
            "-keyout", made_key, "-out", made, "-days", str(days), "-subj", "/CN=ant-host-agent", "-addext", alternative,
        )  # fmt: skip
        os.rename(made_key, key)
        os.chmod(made, 0o644)
        os.rename(made, chain)
    finally:
        os.umask(before)
        for path in (made, made_key):
            files.remove_if_present(path)


def _pin(openssl: str, chain: str) -> str:
    """`sha256//…` of the public key, as curl wants it."""
    public = _run(openssl, "x509", "-in", chain, "-pubkey", "-noout").decode()
    body = public.replace("BEGIN PUBLIC KEY", "BEGIN CERTIFICATE").replace("END PUBLIC KEY", "END CERTIFICATE")
    return "sha256//" + base64.b64encode(hashlib.sha256(ssl.PEM_cert_to_DER_cert(body.strip())).digest()).decode()


def _run(*command: str) -> bytes:
    environ = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/"}
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, env=environ, check=False)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2] or "it does not say why"
        raise AgentError(f"openssl failed: {said}.", "It has to be OpenSSL 1.1.1 or later.")
    return done.stdout
