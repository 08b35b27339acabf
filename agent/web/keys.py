"""From the Authorization header to a caller."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import math
from typing import Optional, Sequence

from agent.errors import Busy, TooManyAttempts, Unauthenticated
from agent.host import clock
from agent.model import ADMIN
from agent.store.keys import Key, KeyRing
from agent.web.attempts import Attempts
from agent.web.caller import Caller

#: What a caller is named where no key is asked for.
ANYBODY = "anybody"


class Keys:
    """The keys that open this agent. The ring gives them as they are at this moment and is asked every time."""

    def __init__(self, ring: KeyRing, required: bool = True) -> None:
        self._ring = ring
        self._required = required
        self._attempts = Attempts()

    def identify(self, authorization: str, address: str, certified: Sequence[str] = ()) -> Caller:
        """Whose key the header holds (RFC 6750 Bearer, or RFC 7617 Basic with the key as password); without that header,
        whom a name in the client's TLS certificate stands for.

        Unauthenticated when it holds none of ours, TooManyAttempts when that happened too often from this address, Busy when
        it may well hold the admin's, which can't be read; a good key always passes.
        """
        if not self._required:
            return Caller(ANYBODY, ADMIN, None, address)
        key = self._find(_token(authorization)) if authorization else self._certified(certified)
        if key is not None and not key.is_expired(clock.timestamp()):
            return Caller(key.name, key.role, key.projects, address)
        wait_seconds = self._attempts.take(address) if authorization else 0.0
        if wait_seconds:
            hint = "A good key is let through at any time. Correct the key that is sent."
            raise TooManyAttempts("Too many wrong keys came from this address.", hint, math.ceil(wait_seconds))
        if authorization and self._ring.trouble is not None:
            raise Busy(f"The admin key can't be told: {self._ring.trouble.detail}", self._ring.trouble.hint, 10)
        refusal = Unauthenticated()
        if authorization:
            refusal.tried = "a wrong key" if key is None else f"the expired key {key.name}"
        raise refusal

    def _find(self, token: bytes) -> Optional[Key]:
        """Every entry is compared, in constant time, whether or not one before it matched."""
        given = hashlib.sha256(token).hexdigest()
        found = None
        for key in self._ring.read():
            if hmac.compare_digest(given, key.sha256) and token:
                found = key
        return found

    def _certified(self, names: Sequence[str]) -> Optional[Key]:
        return next((key for key in self._ring.read() if key.certificate is not None and key.certificate in names), None)


def _token(authorization: str) -> bytes:
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip(" ").encode("latin-1")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(credentials.strip(" "), validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return b""
