"""Who and what gets in, decided when a request's head is complete, before one byte of its body is stored.

The order is: well-formed, Host and Origin, key, route, role and project, content type, length, disk, slots. A refused
request keeps no body, and one that waits for `100 Continue` gets the refusal instead. Only ping asks for neither Host
nor key: health checkers and load balancers call it under any name, and its answer is the same for everybody.
"""

from __future__ import annotations

import re
from typing import Any, Mapping, Optional, Tuple, Union

from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import ChunkedReceiver

from agent.errors import (
    AgentError,
    LengthRequired,
    MalformedRequest,
    TooLarge,
    TooManyAttempts,
    Unauthenticated,
    UnsupportedMediaType,
)
from agent.model import READ
from agent.web import problems
from agent.web.audit import Audit
from agent.web.call import JSON_BYTES
from agent.web.caller import Caller
from agent.web.intake import read_raw_query
from agent.web.keys import Keys
from agent.web.lanes import Lane
from agent.web.multipart_upload import OVERHEAD_BYTES, MultipartUpload, boundary_of
from agent.web.origin import Origins
from agent.web.route import BYTES, JSON, NONE, PING, Route, RouteTable
from agent.web.spool import Body, Spool, Uploads

Buffer = Union[Body, Spool, MultipartUpload]

_TRANSFER_ENCODING = re.compile(rb"\r\ntransfer-encoding:([^\r\n]*)", re.IGNORECASE)
_CONTROL_BYTES = 64 * 1024
_JSON_TYPE, _FORM_TYPE, _MULTIPART_TYPE = "application/json", "application/x-www-form-urlencoded", "multipart/form-data"
_CURL_RAW = "curl: use -X POST -T FILE, or add -H 'Content-Type: application/octet-stream' to --data-binary @FILE."


class Gate:
    """Admission: what it needs to know about the agent to let a request in."""

    def __init__(
        self, keys: Keys, origins: Origins, table: RouteTable, uploads: Uploads, lanes: Mapping[str, Lane], audit: Audit
    ) -> None:  # fmt: skip
        self._keys = keys
        self._origins = origins
        self._table = table
        self._uploads = uploads
        self._lanes = lanes
        self._audit = audit

    @property
    def chunk_bytes(self) -> int:
        """The size of the largest chunk that makes sense."""
        return self._uploads.limit_bytes + OVERHEAD_BYTES

    def admit(self, request: AdmissionParser) -> Buffer:
        """Where the request's body goes; raises the AgentError that refuses it."""
        path = _decoded(request.path)
        if path != PING:
            self._origins.require(request.version, request.headers, request.proxy_netloc or "", request.local_address)
            request.caller = self._keys.identify(
                request.headers.get("AUTHORIZATION", ""), request.peer_address, request.certified
            )
        route, project = self._table.match(request.command, path)
        request.route = route
        if request.caller is not None:
            route.permit(request.caller)
            if project is not None:
                route.permit_project(request.caller, project)
        if route.body == NONE:
            return _no_body(route, request)
        if route.body == BYTES:
            return _small_body(request)
        content_type = request.headers.get("CONTENT_TYPE", "")
        kind = content_type.partition(";")[0].strip().lower()
        if route.body == JSON:
            _require_json(kind)
            return _small_body(request)
        return self._upload(route, request, kind, content_type)

    def advise(self, error: AgentError) -> AgentError:
        """The same; one for a full disk says what to free."""
        return problems.advise(error, self._uploads.store)

    def note_refusal(self, request: AdmissionParser) -> None:
        """What was refused before it reached a handler goes into the audit log, too, if it would have changed something."""
        error, caller, route = request.error, request.caller, request.route
        if isinstance(error, (Unauthenticated, TooManyAttempts)):
            what = f"{request.command} {request.path}"[:100]
            self._audit.note_stranger(what, request.peer_address, error.status, error.kind, getattr(error, "tried", ""))
        elif isinstance(error, AgentError) and caller is not None and route is not None and route.role != READ:
            self._audit.note(route.name, caller, error.status, error.kind, error.members)

    def _upload(self, route: Route, request: AdmissionParser, kind: str, content_type: str) -> Buffer:
        caller = request.caller

        def permit(project: str) -> None:
            if caller is not None:
                route.permit_project(caller, project)

        if kind not in ("", _MULTIPART_TYPE) and (not kind.startswith("application/") or kind == _FORM_TYPE):
            raise UnsupportedMediaType(f"Content-Type: {kind[:80]!r} is no type of an artifact.", _CURL_RAW)
        if not request.chunked and "CONTENT_LENGTH" not in request.headers:
            raise LengthRequired("The artifact is missing, or its length.", "Send Content-Length, or Transfer-Encoding: chunked.")
        if kind == _JSON_TYPE:
            return _small_body(request)
        boundary = boundary_of(content_type) if kind == _MULTIPART_TYPE else None
        if boundary is None:
            permit(read_raw_query(request.query)["project"])
        if not request.chunked and request.content_length == 0:
            raise MalformedRequest("artifact: the body is empty.", "Send the artifact's bytes, as multipart or as the raw body.")
        self._uploads.require_size(request.content_length - (OVERHEAD_BYTES if boundary else 0))
        self._uploads.require_space(request.content_length)
        self._lanes[route.lane].require_room()
        spool = self._uploads.open(None if request.chunked else request.content_length)
        return spool if boundary is None else MultipartUpload(boundary, spool, permit)


def _decoded(path: str) -> str:
    """The path as Bottle will see it, leading slashes made one as Waitress does. MalformedRequest unless UTF-8."""
    try:
        decoded = path.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedRequest("The path is not UTF-8.", "Project ids are ASCII.") from None
    return "/" + decoded.lstrip("/") if decoded.startswith("/") else decoded


def _no_body(route: Route, request: AdmissionParser) -> Body:
    if route.path != PING and (request.chunked or request.content_length):
        raise MalformedRequest(f"{request.command} {route.path} takes no body.", "Put parameters into the query.")
    return Body(0)


def _require_json(kind: str) -> None:
    if kind not in ("", _JSON_TYPE):
        raise UnsupportedMediaType(
            f"Content-Type: this call reads JSON, not {kind[:80]!r}.", "curl: add -H 'Content-Type: application/json'."
        )


def _small_body(request: AdmissionParser) -> Body:
    if request.content_length > JSON_BYTES:
        raise TooLarge(f"The body is larger than {JSON_BYTES} bytes.", "This call takes a small body.", limit_bytes=JSON_BYTES)
    return Body(JSON_BYTES)


class AdmissionParser(HTTPRequestParser):  # type: ignore[misc]
    """One request being received. `error` is always an AgentError.

    `certified` are the names in the client's TLS certificate. `caller` and `route` are known once the head is complete and
    nothing refused it before. `is_last`: the connection ends after the answer, whatever else the client sends.
    """

    def __init__(
        self, adj: Any, gate: Gate, peer_address: str, local_address: str, certified: Tuple[str, ...] = ()
    ) -> None:  # fmt: skip
        super().__init__(adj)
        self._gate = gate
        self.peer_address = peer_address
        self.local_address = local_address
        self.certified = certified
        self.caller: Optional[Caller] = None
        self.route: Optional[Route] = None
        self.is_last = False

    def received(self, data: bytes) -> int:
        """Take bytes of the connection; returns how many belong to this request (all, once it is refused)."""
        try:
            count: int = super().received(data)
            self._limit_chunks()
        except Exception as error:
            self.refuse(problems.from_exception(error))
        if self.error is not None and not isinstance(self.error, AgentError):
            self.refuse(problems.from_server(self.error.code, self.error.body))
        return len(data) if self.is_last else count

    def _limit_chunks(self) -> None:
        """Waitress bounds neither a chunk's control line nor the trailer, and waits for a chunk of any size."""
        receiver = self.body_rcv
        if not isinstance(receiver, ChunkedReceiver):
            return
        if len(receiver.control_line) + len(receiver.trailer) > _CONTROL_BYTES:
            raise MalformedRequest(
                "Transfer-Encoding: a chunk's head or the trailer is too long.", "Send larger chunks, without trailers."
            )
        if receiver.chunk_remainder > self._gate.chunk_bytes:
            raise TooLarge(
                f"A chunk has more than {self._gate.chunk_bytes} bytes.", "Send smaller chunks, or a smaller artifact."
            )

    def parse_header(self, header_plus: bytes) -> None:
        """Waitress's parsing, then admission. ParsingError and AgentError refuse the request."""
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # int() of thousands of digits, urlsplit() of a broken authority
            raise ParsingError(str(error)) from error
        if self.header_bytes_received >= self.adj.max_request_header_size:
            return  # Waitress parses a stand-in and then refuses with 431
        if self.version not in ("1.0", "1.1"):
            raise problems.UnknownVersion(f"HTTP/{self.version[:10]} is not spoken here.", "Use HTTP/1.1.")
        self._require_clear_framing(header_plus)
        buffer = self._gate.admit(self)
        if self.route is not None and self.route.path == PING and self.body_rcv is not None:
            # nobody who needs no key is waited for
            self._end_here()
            self.headers["CONNECTION"] = "close"
        if self.body_rcv is None:
            # without a body there is nothing to wait for, and Waitress would wait
            self.expect_continue = False
            buffer.close()
        else:
            self.body_rcv.buf = buffer

    def _require_clear_framing(self, header_plus: bytes) -> None:
        """One way only to tell where the body ends (RFC 9112, section 6.3: anything else may be request smuggling)."""
        codings = [coding.strip(b" \t").lower() for coding in _TRANSFER_ENCODING.findall(header_plus)]
        if not codings:
            return
        if "CONTENT_LENGTH" in self.headers:
            raise MalformedRequest("Both Content-Length and Transfer-Encoding are there.", "Send one of them.")
        if codings != [b"chunked"] or self.version != "1.1":
            raise MalformedRequest(
                "Transfer-Encoding: only a single 'chunked' with HTTP/1.1 is understood.", "Send Content-Length."
            )

    def refuse(self, error: AgentError) -> None:
        """Answer with the error: nothing more of the body is wanted, and what came is dropped."""
        self.close()
        self.error = self._gate.advise(error)
        self.completed = self.headers_finished = True
        self.empty = False
        self._end_here()

    def _end_here(self) -> None:
        """The request is over with what came of it."""
        self.is_last = self.connection_close = True
        self.expect_continue = self.chunked = False
        self.body_rcv: Optional[Any] = None
        self.content_length = 0
