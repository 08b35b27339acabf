"""The keys that open this agent: the admin's in `token`, all others in `tokens.json`, as digests only.

Both files are read anew for each call, so that a key added or revoked on the host counts at once; `tokens.json`
is parsed again only when its bytes have changed. A file that can't be understood opens nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import stat
import sys
from dataclasses import asdict, dataclass
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from agent import SCHEMA
from agent.errors import AgentError, Conflict, NotFound, UsageError
from agent.host import clock, files
from agent.model import ADMIN, ROLES, parse_digest, parse_project
from agent.store.layout import StoreLayout

#: The name that the key in `token` goes by.
ADMIN_NAME = "admin"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
#: As clock.timestamp writes it, so that text order is time order.
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@dataclass(frozen=True)
class Key:
    """Who holds it and what it opens. `projects`: exact names, None for all, empty for none; `expires_at`: UTC, None never.

    With `certificate`, a name in a client's TLS certificate, it has no text, and `sha256` is empty.
    """

    name: str
    role: str
    sha256: str = ""
    projects: Optional[Tuple[str, ...]] = None
    expires_at: Optional[str] = None
    created_at: str = ""
    certificate: Optional[str] = None

    def is_expired(self, now: str) -> bool:
        """Whether it opens nothing any more at this timestamp."""
        return self.expires_at is not None and self.expires_at <= now


class KeyRing:
    """Every key of this host as the files have them at this moment."""

    def __init__(self, token_file: str, keys_file: str) -> None:
        self._token_file = token_file
        self._keys_file = keys_file
        self._parsed: Tuple[Optional[bytes], Tuple[Key, ...]] = (None, ())
        self._said: Dict[str, str] = {}
        #: Why no call can hold the admin's key, as it was at the last `read`.
        self.trouble: Optional[UsageError] = None

    def read(self) -> Tuple[Key, ...]:
        """The admin's key first. What is wrong with a file is said once on stderr, and then it opens nothing."""
        try:
            own, self.trouble = [Key(ADMIN_NAME, ADMIN, hashlib.sha256(read_token(self._token_file)).hexdigest())], None
        except UsageError as error:
            own, self.trouble = [], error
        self._say(self._token_file, self.trouble)
        return (*own, *self._further())

    def _further(self) -> Tuple[Key, ...]:
        try:
            data = files.read_bytes(self._keys_file)
            if data != self._parsed[0]:
                self._parsed = (data, tuple(parse(data)) if data is not None else ())
            self._say(self._keys_file, None)
            return self._parsed[1]
        except (ValueError, RecursionError, OSError) as error:
            self._say(self._keys_file, error)
            return ()

    def _say(self, path: str, error: Optional[Exception]) -> None:
        complaint = f"{path} is not used, so what is in it opens nothing: {error}\n" if error is not None else ""
        if complaint != self._said.get(path, ""):
            self._said[path] = complaint
            sys.stderr.write(complaint)


def read_token(path: str) -> bytes:
    """The admin's key in this file. UsageError that says why no call could hold one, and what to do about it."""
    hint = f"Write one key to {path}, printable ASCII without spaces, for the agent's user alone to read. It counts at once."
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path} is no regular file, and the key is read from it for each call.", hint)
        if status.st_mode & 0o002:
            raise UsageError(
                f"{path} can be written by everybody on this host, so the admin key in it may be anybody's.",
                f"Remove it, and a new key is made at the next start, or look at its content and run 'chmod 600 {path}'.",
            )
        token = (files.read_bytes(path) or b"").strip()
    except OSError as error:
        raise UsageError(f"{path} can't be read, and the admin key is in it: {error.strerror}.", hint) from error
    if not token or not all(0x21 <= byte <= 0x7E for byte in token):
        what = "has more than one word" if token else "is empty"
        raise UsageError(f"{path} {what}, so no call could hold the admin key.", hint)
    return token


def trouble(store: StoreLayout) -> Optional[UsageError]:
    """Why no call can hold the admin's key on this host, as it is configured now."""
    config = files.read_json(store.config) or {}
    try:
        if not config.get("no_auth"):
            read_token(config.get("token_file") or store.token)
    except UsageError as error:
        return error
    return None


def ensure_token(path: str) -> None:
    """See that the file holds an admin key that nobody else can read or set: 32 random bytes are made once, whole or not at all.

    A group may read it (systemd and Docker hand out secrets so). One that everybody may read is closed. UsageError when
    that can't be, or it holds no key that a header could carry.
    """
    if not os.path.lexists(path):
        files.write_atomically(path, os.urandom(32).hex().encode() + b"\n")
        return
    read_token(path)
    mode = os.stat(path).st_mode
    if mode & 0o004:
        _close(path, mode)


def _close(path: str, mode: int) -> None:
    """Whoever read the key until now still has it, which is said."""
    try:
        os.chmod(path, stat.S_IMODE(mode) & ~0o007)
    except OSError as error:
        raise UsageError(
            f"{path} can be read by everybody on this host, so everybody is admin, and it can't be closed: {error.strerror}.",
            "Give it mode 0400 or 0440 where it is made (a secret of Docker or Kubernetes has a mode), or use another file.",
        ) from error
    sys.stderr.write(f"ant-host-agent: warning: everybody on this host could read {path}; it is closed now. Replace its key.\n")


def parse(data: bytes) -> List[Key]:
    """The keys in `tokens.json`. ValueError that says what is wrong; a member that is not known is wrong, too."""
    document = json.loads(data)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA or not isinstance(document.get("keys"), list):
        raise ValueError(f'it is no object with "schema": {SCHEMA} and a list "keys"')
    keys = [_read_key(entry) for entry in document["keys"]]
    secret = [key.certificate or key.sha256 for key in keys]
    for taken in ([key.name for key in keys], secret):
        if len(set(taken)) != len(taken):
            raise ValueError("a key is there twice")
    return keys


def _read_key(entry: Any) -> Key:
    if not isinstance(entry, dict) or not {"name", "role"} <= entry.keys() <= set(Key.__dataclass_fields__):
        raise ValueError("a key has members that are missing or not known")
    name = entry["name"]
    projects, expires = entry.get("projects"), entry.get("expires_at")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == ADMIN_NAME:
        raise ValueError(f"{name!r:.80} is no name of a key")
    if entry["role"] not in ROLES:
        raise ValueError(f"key {name} has the role {entry['role']!r:.40}, which is none of {', '.join(ROLES)}")
    if expires is not None and not (isinstance(expires, str) and _TIMESTAMP.fullmatch(expires)):
        raise ValueError(f"key {name} has an expires_at that is no timestamp")
    certificate = entry.get("certificate")
    if ("sha256" in entry) == ("certificate" in entry) or not isinstance(certificate, (str, type(None))) or certificate == "":
        raise ValueError(f"key {name} has neither a digest nor the name of a certificate, or both")
    if projects is not None and not isinstance(projects, list):
        raise ValueError(f"key {name} has projects that are no list")
    try:
        allowed = None if projects is None else tuple(parse_project(project) for project in projects)
        digest = parse_digest(entry["sha256"]) if certificate is None else ""
        return Key(name, entry["role"], digest, allowed, expires, str(entry.get("created_at", "")), certificate)
    except AgentError as error:
        raise ValueError(f"key {name}: {error.detail}") from None


def add(
    store: StoreLayout, name: str, role: str, projects: Optional[Sequence[str]] = None, expires_at: Optional[str] = None,
    certificate: Optional[str] = None,
) -> Tuple[Key, str]:  # fmt: skip
    """A new key, and its text, which is kept nowhere; none for one that a certificate of that name stands for.

    Conflict when the name is taken, UsageError when it is none.
    """
    if not _NAME.fullmatch(name) or name == ADMIN_NAME:
        raise UsageError(f"{name!r:.80} is no name for a key.", "Use a-z, 0-9, '.', '_', '-'; 'admin' is taken.")
    token = f"ant_{role}_{os.urandom(32).hex()}" if certificate is None else ""
    allowed = None if projects is None else tuple(map(parse_project, projects))
    digest = hashlib.sha256(token.encode()).hexdigest() if token else ""
    key = Key(name, role, digest, allowed, expires_at, clock.timestamp(), certificate)
    with _changing(store) as keys:
        if name in keys:
            raise Conflict(f"There is a key {name} already.", "Take another name, and revoke the old one later.")
        if certificate is not None and certificate in [other.certificate for other in keys.values()]:
            raise Conflict(f"A certificate named {certificate} stands for another key already.", "`token list` shows which.")
        keys[name] = key
    return key, token


def revoke(store: StoreLayout, name: str) -> None:
    """The key opens nothing from now on. NotFound when there is none of that name."""
    with _changing(store) as keys:
        if keys.pop(name, None) is None:
            raise NotFound(f"There is no key {name!r:.80}.", f"There are: {', '.join(sorted(keys)) or 'none'}.")


def every(store: StoreLayout) -> List[Key]:
    """The keys in `tokens.json`, by name. UsageError when the file is not one that we wrote."""
    data = files.read_bytes(store.keys)
    try:
        return sorted(parse(data), key=lambda key: key.name) if data is not None else []
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{store.keys}: {error}.", "Mend the file, or remove it and add the keys anew.") from None


@contextlib.contextmanager
def _changing(store: StoreLayout) -> Iterator[Dict[str, Key]]:
    """The keys by name, to be changed in place; written back whole at the end unless the block raised."""
    directory = os.open(store.root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        keys = {key.name: key for key in every(store)}
        yield keys
        files.write_json(store.keys, {"schema": SCHEMA, "keys": [_to_json(key) for key in keys.values()]})
    finally:
        os.close(directory)  # and with it the lock


def _to_json(key: Key) -> Mapping[str, Any]:
    return {name: value for name, value in asdict(key).items() if value is not None and (name, value) != ("sha256", "")}
