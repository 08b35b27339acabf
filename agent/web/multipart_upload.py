"""`multipart/form-data` read as it arrives (RFC 7578): small fields in memory, the artifact straight to its spool."""

from __future__ import annotations

from typing import Callable, Dict, List, Optional

from multipart import MultipartError, ParserLimitReached, PushMultipartParser, StrictParserError, parse_options_header

from agent.errors import MalformedRequest, TooLarge
from agent.model import parse_project
from agent.operations.launch import Upload
from agent.web.spool import Spool

FIELDS = ("project", "version", "sha256", "manifest", "force", "left_out", "signature")
FIELD_BYTES = 64 * 1024
#: Some 10,000 stretches.
LEFT_OUT_BYTES = 1 << 20
#: What a multipart body may have beside the artifact: the fields, their heads, the boundaries.
OVERHEAD_BYTES = 2 << 20
_FILE = "artifact"


def boundary_of(content_type: str) -> str:
    """The boundary parameter (RFC 2046: 1 to 70 characters), or MalformedRequest."""
    _, options = parse_options_header(content_type)
    boundary = options.get("boundary", "")
    if not 1 <= len(boundary) <= 70 or not boundary.isascii() or not boundary.isprintable():
        raise MalformedRequest(
            "Content-Type: the multipart boundary is missing or not valid.", "Let the client write this header (curl -F does)."
        )
    return str(boundary)


class MultipartUpload:
    """Stands in for Waitress's body buffer, as Spool does. `fields` holds the fields that came, as bytes.

    `permit` is called with the project as soon as that field is there, and refuses the rest by raising.
    """

    def __init__(self, boundary: str, spool: Spool, permit: Callable[[str], None]) -> None:
        self.fields: Dict[str, bytes] = {}
        self.spool = spool
        self._permit = permit
        self._parser = PushMultipartParser(boundary, strict=True)
        self._seen: List[str] = []
        self._name: Optional[str] = None
        self._value = bytearray()
        self._received = 0
        self._is_over = False

    @property
    def started(self) -> float:
        return self.spool.started

    def append(self, data: bytes) -> None:
        """Take the bytes. MalformedRequest names the part at fault; otherwise as Spool.append."""
        self._received += len(data)
        if self._received - self.spool.size_bytes > OVERHEAD_BYTES + len(data):
            raise TooLarge(
                f"multipart: there are more than {OVERHEAD_BYTES} bytes beside the artifact.", "Send only the fields of a launch."
            )
        if self._is_over:
            if bytes(data).strip(b"\r\n"):
                raise MalformedRequest(
                    "multipart: there is more after the last boundary.", "End the body with the closing boundary."
                )
            return
        try:
            for event in self._parser.parse(bytes(data)):
                self._take(event)
        except ParserLimitReached as error:
            raise TooLarge(f"multipart: {error}.", "Send only the fields of a launch.") from error
        except StrictParserError as error:
            # the line break after the last boundary may come alone; the parser takes it for a further part
            self._is_over = True
            if bytes(data).strip(b"\r\n"):
                raise _malformed(error) from error
        except (MultipartError, AssertionError) as error:
            raise _malformed(error) from error

    def _take(self, event: object) -> None:
        if event is None:
            self._end()
        elif isinstance(event, bytearray):
            self._add(event)
        else:
            self._begin(str(getattr(event, "name", "")), getattr(event, "filename", None))

    def _begin(self, name: str, filename: Optional[str]) -> None:
        if name != _FILE and name not in FIELDS:
            raise MalformedRequest(
                f"{name[:80]!r}: this call has no such field.", f"The fields are {_FILE} (a file), {', '.join(FIELDS)}."
            )
        if name in self._seen:
            raise MalformedRequest(f"{name}: it is there more than once.", "Send each field once.")
        if name == _FILE and filename is None:
            raise MalformedRequest(
                f"{_FILE}: it is a text field, not a file.", f"With curl, write -F '{_FILE}=@FILE' with the @."
            )
        if name not in (_FILE, "manifest", "left_out") and filename is not None:
            raise MalformedRequest(f"{name}: it is a file, and a text field is expected.", "Send it without a file name.")
        self._seen.append(name)
        self._name = name
        self._value = bytearray()

    def _add(self, data: bytearray) -> None:
        if self._name == _FILE:
            self.spool.append(data)
            return
        self._value += data
        limit = LEFT_OUT_BYTES if self._name == "left_out" else FIELD_BYTES
        if len(self._value) > limit:
            raise TooLarge(f"{self._name}: it is larger than {limit} bytes.", "Send a shorter one.", limit_bytes=limit)

    def _end(self) -> None:
        if self._name is not None and self._name != _FILE:
            self.fields[self._name] = bytes(self._value)
        if self._name == "project":
            self._permit(parse_project(self._value.decode(errors="replace")))
        self._name = None

    def __len__(self) -> int:
        return self._received

    def __bool__(self) -> bool:
        return True

    def getbuf(self) -> MultipartUpload:
        return self

    def getfile(self) -> MultipartUpload:
        return self

    def finish(self) -> Upload:
        """As Spool.finish; MalformedRequest when the body ended early or has no artifact."""
        try:
            self._parser.close()
        except MultipartError as error:
            raise _malformed(error) from error
        if _FILE not in self._seen:
            raise MalformedRequest(f"{_FILE}: it is missing.", f"Send the artifact as the file part '{_FILE}'.")
        return self.spool.finish()

    def close(self) -> None:
        """As Spool.close."""
        self.spool.close()


def _malformed(error: Exception) -> MalformedRequest:
    return MalformedRequest(
        f"multipart: the body is not valid multipart/form-data ({error}).",
        "Let the HTTP client build the body (curl -F).",
    )
