"""How `serve` is configured: flags, then `ANT_HOST_AGENT_<NAME>`, then defaults; checked once.

A bad value is a UsageError that names the flag or the variable; it never becomes a default.
No argparse here: importing it costs more than everything else that happens before the first pong.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, NoReturn, Optional, Sequence, Tuple

from agent import SCHEMA
from agent.errors import UsageError

DEFAULT_LISTEN = "127.0.0.1:4499"
ENVIRONMENT_PREFIX = "ANT_HOST_AGENT_"

#: Every option of `serve`, and what its value is; None for a switch.
OPTIONS: Dict[str, Optional[str]] = {
    "listen": "HOST:PORT",
    "store": "DIR",
    "token_file": "FILE",
    "no_auth": None,
    "allow_plaintext": None,
    "allow_host": "NAME[,NAME]",
    "signatures": "off|require",
    "log_budget": "BYTES",
    "tls_cert": "FILE",
    "tls_key": "FILE",
    "tls_client_ca": "FILE",
}
_CLIENT_OPTIONS = ("url", "token", "ca", "client_cert")
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_SIZE, _SHIFTS = re.compile(r"([0-9]{1,15})([KMGT]?)"), {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


@dataclass(frozen=True)
class ServeConfig:
    """Where the agent listens, what it keeps its files in and who may call it. Paths are absolute."""

    host: str
    port: int
    store: str
    token_file: str
    no_auth: bool = False
    allow_plaintext: bool = False
    allow_host: str = ""
    tls_cert: Optional[str] = None
    tls_key: Optional[str] = None
    tls_client_ca: Optional[str] = None
    signatures: str = "off"
    log_budget: Optional[str] = None

    @property
    def listen(self) -> str:
        """`HOST:PORT`, an IPv6 address in brackets."""
        return f"{_bracketed(self.host)}:{self.port}"

    @property
    def names(self) -> Tuple[str, ...]:
        """The names, beside localhost and the host's own, under which this agent may be called."""
        return (self.host, *_split(self.allow_host))

    @property
    def url(self) -> str:
        """What a client on this host calls: a wildcard address is reached through loopback."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"{self.scheme}://{_bracketed(host)}:{self.port}"

    @property
    def scheme(self) -> str:
        """What the agent speaks: `http` or `https`."""
        return "https" if self.tls_cert else "http"

    def to_json(self) -> Dict[str, Any]:
        """The content of `<store>/config.json`."""
        own = {name: getattr(self, name) for name in OPTIONS}
        return {"schema": SCHEMA, **own}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ServeConfig:
        """Read what any released version wrote; UsageError names the member that is wrong."""
        given = {}
        for name, metavar in OPTIONS.items():
            value = document.get(name)
            source = f"config.json: '{name}'"
            if (value is None and name == "store") or not isinstance(value, (str if metavar else bool, type(None))):
                _refuse(source, repr(value), "is not what it must be.", "Start the agent again: it rewrites the file.")
            if value is not None and value is not False:
                given[name] = _Given(str(value), source)
        return _build(given, {})


@dataclass(frozen=True)
class _Given:
    """A value as it was written, and where: the flag or the variable to name in an error."""

    text: str
    source: str


def parse_serve(argv: Sequence[str], environ: Mapping[str, str]) -> ServeConfig:
    """The configuration that these flags and variables ask for; UsageError (exit code 2) if they can't be followed.

    An `ANT_HOST_AGENT_*` variable that nothing reads is a warning on stderr: it is most likely a misspelt one.
    """
    for name in unknown_variables(environ):
        known = ", ".join(ENVIRONMENT_PREFIX + option.upper() for option in OPTIONS)
        sys.stderr.write(f"ant-host-agent: warning: {name} means nothing here. Known are {known}.\n")
    given = {**_from_environment(environ), **_from_flags(argv)}
    if "no_auth" in given and "token_file" in given:
        _refuse(given["no_auth"].source, "", f"contradicts {given['token_file'].source}.", "Leave one of the two out.")
    return _build(given, environ)


def unknown_variables(environ: Mapping[str, str]) -> List[str]:
    """The names with our prefix that neither `serve` nor the client reads."""
    known = {ENVIRONMENT_PREFIX + option.upper() for option in (*OPTIONS, *_CLIENT_OPTIONS)}
    return sorted(name for name in environ if name.startswith(ENVIRONMENT_PREFIX) and name not in known)


def default_store(environ: Mapping[str, str], uid: Optional[int] = None) -> str:
    """`/var/lib/ant-host-agent` for root, else the user's state directory (XDG Base Directory Specification).

    That specification says that a relative $XDG_STATE_HOME is to be ignored.
    """
    if (os.geteuid() if uid is None else uid) == 0:
        return "/var/lib/ant-host-agent"
    state_home = environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(state_home):
        return os.path.normpath(state_home) + "/ant-host-agent"
    home = environ.get("HOME") or os.path.expanduser("~")
    if not os.path.isabs(home):
        _refuse("--store", "", "is needed: this user has no home directory.", "Pass --store DIR.")
    return os.path.normpath(home) + "/.local/state/ant-host-agent"


def parse_listen(text: str, source: str = "--listen") -> Tuple[str, int]:
    """Host and port of `HOST:PORT` or `[IPV6]:PORT`.

    `localhost` becomes 127.0.0.1 here and now, so that no resolver can send it elsewhere later (RFC 6761, 6.3).
    """
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        hint = f"Write for example {DEFAULT_LISTEN} or [::1]:4499."
        _refuse(source, text, "is not HOST:PORT with a port from 1 to 65535.", hint)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not _is_address(socket.AF_INET6, host):
            _refuse(source, text, "has no IPv6 address between its brackets.", "Write for example [::1]:4499.")
    elif ":" in host:
        _refuse(source, text, "has an IPv6 address without brackets.", f"Write [{host}]:{port}.")
    elif not _is_address(socket.AF_INET, host):
        _check_host_name(host, text, source)
    return ("127.0.0.1" if host == "localhost" else host), int(port)


def is_loopback(host: str) -> bool:
    """Whether a host is surely this machine alone: 127.0.0.0/8, ::1 or exactly `localhost`, never another name."""
    if _is_address(socket.AF_INET, host):
        return host.startswith("127.")
    if _is_address(socket.AF_INET6, host):
        return socket.inet_pton(socket.AF_INET6, host) == bytes(15) + b"\1"
    return host == "localhost"


def _from_environment(environ: Mapping[str, str]) -> Dict[str, _Given]:
    given = {}
    for name, metavar in OPTIONS.items():
        variable = ENVIRONMENT_PREFIX + name.upper()
        text = environ.get(variable)
        if text is None or (metavar is None and text.lower() in _FALSE):
            continue
        if metavar is None and text.lower() not in _TRUE:
            _refuse(variable, repr(text), "is neither on nor off.", f"Set {variable}=1, or unset it.")
        given[name] = _Given(text, variable)
    return given


def _from_flags(argv: Sequence[str]) -> Dict[str, _Given]:
    given = {}
    words = iter(argv)
    for word in words:
        flag, equals, text = word.partition("=")
        name = flag[2:].replace("-", "_")
        if not flag.startswith("--") or "_" in flag or name not in OPTIONS:
            _refuse(repr(word), "", "is not an option of serve.", "`ant-host-agent.pyz serve --help` lists them.")
        if OPTIONS[name] is None and equals:
            _refuse(flag, text, "is a switch and takes no value.", f"Write {flag} alone.")
        if OPTIONS[name] is not None and not equals:
            text = next(words, "")
            if not text or text.startswith("--"):
                _refuse(flag, "", "needs a value.", f"Write {flag} {OPTIONS[name]}.")
        given[name] = _Given(text, flag)
    return given


def _build(given: Dict[str, _Given], environ: Mapping[str, str]) -> ServeConfig:
    listen = given.get("listen", _Given(DEFAULT_LISTEN, "--listen"))
    host, port = parse_listen(listen.text, listen.source)
    store = _path(given["store"]) if "store" in given else default_store(environ)
    token_file = _path(given["token_file"]) if "token_file" in given else store + "/token"
    tls = _tls(given)
    _refuse_exposure(given, listen, host)
    allow_host = given["allow_host"] if "allow_host" in given else _Given("", "--allow-host")
    for name in _split(allow_host.text):
        if not any(_is_address(family, name) for family in (socket.AF_INET, socket.AF_INET6)):
            _check_host_name(name, allow_host.text, allow_host.source)
    budget = _bytes(given["log_budget"]) if "log_budget" in given else None
    signatures = given.get("signatures", _Given("off", "--signatures"))
    if signatures.text not in ("off", "require"):
        _refuse(signatures.source, signatures.text, "is no policy.", "Write off or require.")
    cert, key, client_ca = tls
    switches = ("no_auth" in given, "allow_plaintext" in given)
    return ServeConfig(host, port, store, token_file, *switches, allow_host.text, cert, key, client_ca, signatures.text, budget)


def _bytes(given: _Given) -> str:
    """A size as a whole number of bytes, in digits: `20G` is 20 GiB."""
    found = _SIZE.fullmatch(given.text)
    if found is None or int(found[1]) == 0:
        _refuse(given.source, given.text, "is no size.", "Write bytes, or for example 500M or 20G.")
    return str(int(found[1]) << _SHIFTS[found[2]])


def _tls(given: Dict[str, _Given]) -> List[Optional[str]]:
    """Certificate, key and authority of clients; half of it would be a promise that nobody keeps."""
    for name in ("tls_cert", "tls_key", "tls_client_ca"):
        for needed in ("tls_cert", "tls_key"):
            if name in given and needed not in given:
                flag = "--" + needed.replace("_", "-")
                hint = "A certificate needs its key, and to ask clients for theirs needs both. `tls-init` makes a pair."
                _refuse(given[name].source, "", f"is of no use without {flag}.", hint)
    return [_path(given[name]) if name in given else None for name in ("tls_cert", "tls_key", "tls_client_ca")]


def _refuse_exposure(given: Dict[str, _Given], listen: _Given, host: str) -> None:
    """Whoever reaches the agent can run programs on the host: nothing beyond loopback without a key and without TLS."""
    if is_loopback(host):
        return
    if "no_auth" in given:
        _refuse(
            given["no_auth"].source,
            "",
            f"is for loopback only, and {listen.source} is {listen.text}.",
            "Anybody who reaches that address could run programs here: use a key, or listen on 127.0.0.1.",
        )
    if "allow_plaintext" not in given and "tls_cert" not in given:
        _refuse(
            listen.source,
            listen.text,
            "can be reached from other machines, and keys would cross the network as plain text.",
            "Add --tls-cert and --tls-key (`tls-init` makes them), or put nginx or haproxy in front and listen on 127.0.0.1. "
            "Where the network itself is private, --allow-plaintext permits it.",
        )


def _split(names: str) -> List[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _path(given: _Given) -> str:
    if not given.text:
        _refuse(given.source, "''", "is no path.", "Write an absolute path.")
    return os.path.abspath(os.path.expanduser(given.text))


def _check_host_name(host: str, text: str, source: str) -> None:
    if not host:
        _refuse(source, text, "names no host.", "Write 127.0.0.1, or 0.0.0.0 for every IPv4 address of this machine.")
    if host.replace(".", "").isdigit() or not _HOST_NAME.fullmatch(host):
        why = f"has {host!r}, which is neither an address nor a host name."
        _refuse(source, text, why, f"Write for example {DEFAULT_LISTEN}.")


def _is_address(family: int, host: str) -> bool:
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError):
        return False
    return True


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _refuse(source: str, text: str, why: str, hint: str) -> NoReturn:
    raise UsageError(" ".join(filter(None, (source, text, why))), hint)
