"""Fetching an artifact by URL: http and https only, within a size, a time for each read and a time in all.

Nothing of the environment decides where the bytes come from (no proxies, no netrc), and no
other scheme is known to the opener, so a redirect can't lead to `file:` or `ftp:`.
"""

from __future__ import annotations

import functools
import hashlib
import http.client
import os
import socket
import threading
import time
from types import TracebackType
from typing import Any, Callable, List, Optional, Tuple, Type
from urllib import error as url_error
from urllib import parse as url_parse
from urllib import request as url_request

from agent.errors import AgentError, ArtifactFault, MalformedRequest, TooLarge
from agent.host.files import remove_if_present, write_all

REDIRECTS = 5
_REDIRECT_CODES = (301, 302, 303, 307, 308)  # RFC 9110 15.4
_CHUNK_BYTES = 1 << 18
_USER_AGENT = "ant-host-agent"


def fetch(
    url: str,
    path: str,
    limit_bytes: int,
    timeout_seconds: float = 30.0,
    deadline_seconds: float = 1800.0,
    require_space: Callable[[int], None] = lambda size: None,
) -> Tuple[str, int]:
    """Download `url` into the new file `path` (0600); returns its SHA-256 digest and its size in bytes.

    `timeout_seconds` bounds every single wait, `deadline_seconds` the whole download.
    `require_space` is told the announced size before the first byte is written and may refuse.
    Raises ArtifactFault (step `download`) with what happened, TooLarge over `limit_bytes`,
    MalformedRequest for a URL that is not http(s), OSError when the disk refuses; the file is
    removed in every such case.
    """
    check_url(url)
    with _Watchdog(deadline_seconds) as watchdog:
        try:
            return _fetch(url, path, limit_bytes, timeout_seconds, watchdog, require_space)
        except AgentError:
            remove_if_present(path)
            raise
        except _DiskRefused as error:
            remove_if_present(path)
            raise error.error from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            remove_if_present(path)
            raise _fault(url, _happened(error, watchdog, timeout_seconds)) from error


def check_url(url: str) -> None:
    """MalformedRequest unless it is an http or https URL with a host and without credentials."""
    try:
        parts = url_parse.urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        usable = False
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        raise MalformedRequest(
            f"artifact_url: {url[:200]!r} can't be fetched.",
            "Send an http:// or https:// URL without user and password.",
        )


def check_digest(expected: str, actual: str) -> None:
    """ArtifactFault unless the artifact that was received is the one that was meant."""
    if expected != actual:
        raise ArtifactFault(
            f"sha256: the artifact's digest is {actual}, not {expected}.",
            "The bytes changed on the way, or another artifact was meant; send the digest of these bytes.",
            step="digest",
            digest=actual,
        )


def _fetch(
    url: str, path: str, limit_bytes: int, timeout: float, watchdog: _Watchdog, require_space: Callable[[int], None]
) -> Tuple[str, int]:
    with _follow(url, timeout, watchdog) as response:
        length = _announced(url, response)
        if length is not None and length > limit_bytes:
            raise _too_large(url, f"{length} bytes", limit_bytes)
        require_space(length or 0)
        digest, size = _receive(response, url, path, limit_bytes, watchdog)
    if length is not None and size != length:
        raise _fault(url, f"it was cut short: {size} of {length} bytes came")
    return digest, size


def _follow(url: str, timeout: float, watchdog: _Watchdog) -> Any:
    """The response after at most REDIRECTS redirects. (urllib's own handler reads their bodies into memory.)"""
    opener, target = _opener(watchdog), url
    for _ in range(REDIRECTS + 1):
        request = url_request.Request(target, headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"})
        try:
            return opener.open(request, timeout=timeout)
        except url_error.HTTPError as error:
            error.close()
            location = error.headers.get("Location")
            if error.code not in _REDIRECT_CODES or location is None:
                raise
            target = _redirected(url, target, location)
    raise _fault(url, f"it redirects more than {REDIRECTS} times")


def _redirected(url: str, base: str, location: str) -> str:
    target = url_parse.urljoin(base, location)
    try:
        check_url(target)
    except MalformedRequest:
        raise _fault(url, f"it redirects to {target[:200]!r}, which is no plain http or https URL") from None
    return target


def _receive(response: Any, url: str, path: str, limit_bytes: int, watchdog: _Watchdog) -> Tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    fd = _on_disk(os.open, path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while True:
            # read1: at most one recv(2), so that a byte now and then can't stretch one read for ever
            data = response.read1(_CHUNK_BYTES)
            watchdog.check()
            if not data:
                return digest.hexdigest(), size
            size += len(data)
            if size > limit_bytes:
                raise _too_large(url, "more", limit_bytes)
            digest.update(data)
            _on_disk(write_all, fd, data)
    finally:
        os.close(fd)


class _DiskRefused(Exception):
    """Our own disk's error, which is no fault of the download."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def _on_disk(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except OSError as error:
        raise _DiskRefused(error) from error


def _announced(url: str, response: Any) -> Optional[int]:
    text = response.headers.get("Content-Length")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise _fault(url, f"its Content-Length is {text[:40]!r}")
    return int(text)


class _Watchdog:
    """Cuts the connections of one download when its whole time is over, header phase included."""

    def __init__(self, deadline_seconds: float) -> None:
        self.deadline_seconds = deadline_seconds
        self._deadline = time.monotonic() + deadline_seconds
        self._sockets: List[socket.socket] = []
        self._timer = threading.Timer(deadline_seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> _Watchdog:
        self._timer.start()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], traceback: Optional[TracebackType]
    ) -> None:
        self._timer.cancel()
        self._timer.join()

    @property
    def expired(self) -> bool:
        return time.monotonic() >= self._deadline

    def watch(self, connection: socket.socket) -> None:
        self._sockets.append(connection)

    def check(self) -> None:
        if self.expired:
            raise TimeoutError("the download's whole time is over")

    def _cut(self) -> None:
        for connection in list(self._sockets):
            try:
                # the base class's: ssl's own would drop its state under the reading thread
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
            except OSError:
                continue


def _opener(watchdog: _Watchdog) -> url_request.OpenerDirector:
    opener = url_request.OpenerDirector()
    handlers: Tuple[url_request.BaseHandler, ...] = (
        _Plain(watchdog),
        _Tls(watchdog),
        url_request.HTTPDefaultErrorHandler(),
        url_request.HTTPErrorProcessor(),
    )
    for handler in handlers:
        opener.add_handler(handler)
    return opener


class _PlainConnection(http.client.HTTPConnection):
    def __init__(self, host: str, *, watchdog: _Watchdog, **options: Any) -> None:
        super().__init__(host, **options)
        self._watchdog = watchdog

    def connect(self) -> None:
        super().connect()
        self._watchdog.watch(self.sock)


class _TlsConnection(http.client.HTTPSConnection):
    def __init__(self, host: str, *, watchdog: _Watchdog, **options: Any) -> None:
        super().__init__(host, **options)
        self._watchdog = watchdog

    def connect(self) -> None:
        super().connect()
        self._watchdog.watch(self.sock)


class _Plain(url_request.HTTPHandler):
    def __init__(self, watchdog: _Watchdog) -> None:
        super().__init__()
        self._connect: Any = functools.partial(_PlainConnection, watchdog=watchdog)

    def http_open(self, req: url_request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connect, req)


class _Tls(url_request.HTTPSHandler):
    def __init__(self, watchdog: _Watchdog) -> None:
        super().__init__()
        self._connect: Any = functools.partial(_TlsConnection, watchdog=watchdog)

    def https_open(self, req: url_request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connect, req)


def _happened(error: Exception, watchdog: _Watchdog, timeout_seconds: float) -> str:
    if watchdog.expired:
        return f"it was not finished within {watchdog.deadline_seconds:g} s"
    if isinstance(error, url_error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    reason = error.reason if isinstance(error, url_error.URLError) else error
    if isinstance(reason, (socket.timeout, TimeoutError)):
        return f"nothing came for {timeout_seconds:g} s"
    if isinstance(reason, http.client.IncompleteRead):
        return "it was cut short"
    return f"the connection failed ({reason or type(reason).__name__})"


def _fault(url: str, happened: str) -> ArtifactFault:
    return ArtifactFault(
        f"artifact_url: {url[:200]} could not be fetched: {happened}.",
        "Check the URL from this host, for example with 'curl -fIL URL', and call again.",
        step="download",
    )


def _too_large(url: str, size: str, limit_bytes: int) -> TooLarge:
    return TooLarge(
        f"artifact_url: {url[:200]} has {size}; at most {limit_bytes} bytes are taken.",
        "Make the artifact smaller, or let the project fetch what is large by itself.",
        step="download",
        limit_bytes=limit_bytes,
    )
