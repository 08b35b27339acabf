"""What a call for logs may ask for, as parameters of a query or as members of a JSON object, and how it is answered."""

from __future__ import annotations

import calendar
import re
import time
from typing import Any, Dict, Mapping, Optional, Tuple, Union

from agent.errors import MalformedRequest
from agent.store.gzipped import Gzipped
from agent.store.logtar import LogTar
from agent.store.segments import STDERR, STDOUT
from agent.store.text import Marked, Text, TextQuery
from agent.web.call import Call, Field, Fields, Schema, flag, number
from agent.web.streams import Sending

_MOST_LINES = 10_000_000
_STREAMS = {"stdout": STDOUT, "stderr": STDERR}
_MOST_GREP_CHARACTERS = 256
#: A number up to here is so many seconds ago; a larger one counts from 1970.
_AGO_SECONDS = 1e9
_LATEST_SECONDS = 100_000_000_000
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)([.,]\d{1,30})?)?)?(?:([Zz])|([+ -])(\d\d):?(\d\d))?", re.ASCII
)


def _one_of(name: str, *words: str) -> Field:
    def read(value: object) -> str:
        if value not in words:
            raise MalformedRequest(f"{name}: {value!r:.40} is not known here.", f"Send {' or '.join(words)}.")
        return str(value)

    return Field(read, {"type": "string", "enum": list(words)})


def _whole(name: str, least: int, most: int, **words: int) -> Field:
    """A whole number, or a word that stands for one."""
    wanted = f"Send a whole number from {least} to {most}{''.join(f', or {word}' for word in words)}."

    def read(value: object) -> int:
        if isinstance(value, str) and value in words:
            return words[value]
        is_whole = isinstance(value, int) and not isinstance(value, bool) or isinstance(value, float) and value.is_integer()
        if not is_whole or not least <= value <= most:  # type: ignore[operator]
            raise MalformedRequest(f"{name}: {value!r:.40} is not possible.", wanted)
        return int(value)  # type: ignore[call-overload,no-any-return]

    schema: Schema = {"type": "integer", "minimum": least, "maximum": most}
    if words:
        schema = {"anyOf": [schema, {"type": "string", "enum": list(words)}]}
    return Field(read, schema, lambda text: int(text) if re.fullmatch(r"[0-9]{1,10}", text) else text)


def _moment(name: str) -> Field:
    def read(value: object) -> float:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < _LATEST_SECONDS:
            return time.time() - value if value < _AGO_SECONDS else float(value)
        found = _from_iso(value) if isinstance(value, str) else None
        if found is None:
            hint = "Send 2026-01-31T12:04:31Z or the like (without a zone it is UTC), or how many seconds ago."
            raise MalformedRequest(f"{name}: {value!r:.40} is no time.", hint)
        return found

    texts = [{"type": "string", "format": form} for form in ("date-time", "date")]
    schema = {"anyOf": [{"type": "number", "minimum": 0, "exclusiveMaximum": _LATEST_SECONDS}, *texts]}
    return Field(read, schema, number)


def _from_iso(text: str) -> Optional[float]:
    """Seconds since the epoch of an ISO 8601 date or time; a `+` that a query made a space counts as one."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    fraction, _, sign, hours, minutes = match.groups()[6:]
    is_real = year >= 1 and 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]
    if not is_real or hour > 23 or minute > 59 or second > 60:
        return None
    offset = (int(hours) * 3600 + int(minutes) * 60) * (-1 if sign == "-" else 1) if sign else 0
    whole = calendar.timegm((year, month, day, hour, minute, second))
    return max(0.0, whole - offset + float((fraction or "0").replace(",", ".")))


def _grep() -> Field:
    def read(value: object) -> bytes:
        if not isinstance(value, str) or not 0 < len(value) <= _MOST_GREP_CHARACTERS or "\n" in value:
            raise MalformedRequest(
                f"grep: {value!r:.40} is not possible.",
                f"Send a piece of a line, 1 to {_MOST_GREP_CHARACTERS} characters; it is looked for as it is, not as a pattern.",
            )
        return value.encode("utf-8", "surrogatepass")

    return Field(read, {"type": "string", "pattern": "^[^\n]+$", "minLength": 1, "maxLength": _MOST_GREP_CHARACTERS})


def _place() -> Field:
    def read(value: object) -> Tuple[int, int]:
        found = re.fullmatch(r"([0-9]{1,10})\.([0-9]{1,18})", value) if isinstance(value, str) else None
        if found is None:
            raise MalformedRequest(f"from: {value!r:.40} is no place.", "Send what a mark says: SEGMENT.OFFSET.")
        return int(found[1]), int(found[2])

    return Field(read, {"type": "string", "pattern": r"^[0-9]{1,10}\.[0-9]{1,18}$"})


FIELDS: Fields = {
    "format": _one_of("format", "tar", "text"),
    "compress": _one_of("compress", "gzip", "none"),
    "stream": _one_of("stream", *_STREAMS),
    "tail": _whole("tail", 0, _MOST_LINES),
    "since": _moment("since"),
    "until": _moment("until"),
    "grep": _grep(),
    "run": _whole("run", 1, 1 << 31, last=0),
    "follow": flag("follow"),
    "marks": flag("marks"),
    "from": _place(),
}
_OF_TEXT = ("stream", "tail", "since", "until", "grep", "run", "follow", "marks", "from")


def text_query(values: Mapping[str, Any]) -> Optional[TextQuery]:
    """The text that is asked for, None for a tar. MalformedRequest for what does not go together."""
    asked: Dict[str, Any] = {name: values[name] for name in _OF_TEXT if name in values}
    if values.get("format", "tar") != "text":
        for name in asked:
            raise MalformedRequest(f"{name}: it is for text, and this call asks for a tar.", "Add format=text.")
        return None
    if asked.get("follow") and (values.get("compress") == "gzip" or "until" in asked or asked.get("run", 0) != 0):
        raise MalformedRequest("follow: it goes with neither compress, until nor an older run.", "Leave one of them out.")
    if "from" in asked and {"tail", "since", "run"} & set(asked):
        raise MalformedRequest("from: it goes with neither tail, since nor run.", "It says by itself where to begin.")
    if "from" in asked:
        asked["place"] = asked.pop("from")
    if "stream" in asked:
        asked["stream"] = _STREAMS[asked["stream"]]
    return TextQuery(**asked)


def as_text(text: Union[Text, Marked], call: Call) -> Sending:
    """The lines, compressed if the call says so."""
    if call.values.get("compress") == "gzip":
        return Sending(Gzipped(text), "application/gzip", f"{call.values['project']}.log.gz")
    return Sending(text, "text/plain; charset=utf-8")


def as_tar(tar: LogTar, call: Call) -> Union[LogTar, Sending]:
    """The tar, with its length and in any part; compressed it has neither."""
    if call.values.get("compress") == "gzip":
        return Sending(Gzipped(tar), "application/gzip", f"{call.values['project']}-logs.tar.gz")
    return tar
