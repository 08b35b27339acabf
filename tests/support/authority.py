"""A certificate authority for tests, made by the real openssl."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

_CONFIG = """
[ca]
default_ca = own
[own]
database = {folder}/index
serial = {folder}/serial
new_certs_dir = {folder}
default_md = sha256
policy = any
unique_subject = no
copy_extensions = copy
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
"""


class Authority:
    """One authority; every file of its is PEM, in `folder`."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed")
        folder.mkdir()
        self.folder = folder
        (folder / "index").touch()
        (folder / "serial").write_text("01\n")
        (folder / "config").write_text(_CONFIG.format(folder=folder))
        self.certificate = folder / "ca.pem"
        _openssl("req", "-x509", *self._new_key("ca"), "-days", "30", "-subj", "/CN=authority", "-out", str(self.certificate))

    def issue(self, name: str, alternative: str = "DNS:localhost,IP:127.0.0.1", expired: bool = False) -> Path:
        """A certificate for that common name, with its key in the same file."""
        request, made, both = (self.folder / f"{name}.{kind}" for kind in ("request", "made", "pem"))
        extension = f"subjectAltName={alternative}"
        _openssl("req", *self._new_key(name), "-subj", f"/CN={name}", "-addext", extension, "-out", str(request))
        validity = ("-startdate", "20200101000000Z", "-enddate", "20210101000000Z") if expired else ("-days", "30")
        _openssl(
            "ca", "-batch", "-notext", "-config", str(self.folder / "config"), "-cert", str(self.certificate),
            "-keyfile", str(self.folder / "ca.key"), "-in", str(request), "-out", str(made), *validity,
        )  # fmt: skip
        both.write_text(made.read_text() + (self.folder / f"{name}.key").read_text())
        return both

    def trusted_by(self, client: Path | None = None) -> ssl.SSLContext:
        """A client's context that trusts this authority alone, and has that certificate of its own."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        if client is not None:
            context.load_cert_chain(client)
        return context

    def _new_key(self, name: str) -> tuple[str, ...]:
        where = ("-nodes", "-keyout", str(self.folder / f"{name}.key"), "-config", str(self.folder / "config"))
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", *where)


def _openssl(*words: str) -> None:
    done = subprocess.run(["openssl", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
