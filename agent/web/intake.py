"""The three shapes of a launch (multipart, raw body, JSON with a URL) made into one."""

from __future__ import annotations

import os
import time
from typing import Any, Callable, Dict, Optional

from agent.errors import AgentError, MalformedRequest
from agent.host.files import remove_if_present
from agent.operations.launch import LaunchCall, Upload
from agent.operations.status import running
from agent.store import download, leftout, staging
from agent.web.call import (
    DIGEST,
    PROJECT,
    VERSION,
    Call,
    Fields,
    flag,
    json_object,
    parse_list,
    read_json,
    read_query,
    require,
    text,
)
from agent.web.multipart_upload import MultipartUpload
from agent.web.spool import Spool, Uploads

RAW_FIELDS: Fields = {
    "project": PROJECT, "version": VERSION, "sha256": DIGEST, "force": flag("force"), "signature": text("signature"),
}  # fmt: skip
_URL = text("artifact_url", format="uri", pattern="^[Hh][Tt][Tt][Pp][Ss]?://")
URL_FIELDS: Fields = {**RAW_FIELDS, "artifact_url": _URL, "manifest": json_object("manifest")}


def receive(call: Call, permit: Callable[[str], None]) -> LaunchCall:
    """The launch that is asked for, its artifact whole in staging and with the digest that the caller gave, if any.

    `permit` raises for a project that the caller may not launch, before anything is done.
    Raises MalformedRequest, ArtifactFault (other digest, download failed), TooLarge, StorageFull;
    then nothing is left in staging.
    """
    body = call.environ["wsgi.input"]
    started = getattr(body, "started", time.monotonic())
    values = _read_values(call)
    call.values.update(values)
    permit(values["project"])
    url = values.pop("artifact_url", None)
    try:
        upload = body.finish() if url is None else _fetch(call.services.uploads, url)
        call.values["digest"] = upload.digest
        _check(values.get("sha256") if "left_out" not in values else None, upload)
    except AgentError as error:
        handle = call.services.agent.handle(values["project"])
        error.members = {"project": values["project"], "running": running(handle), **error.members}
        raise
    whole = {"version": None, "sha256": None, "manifest": None, **values}
    return LaunchCall(upload=upload, received_from=call.caller, started=started, **whole)


def _read_values(call: Call) -> Dict[str, Any]:
    body, query = call.environ["wsgi.input"], call.environ.get("QUERY_STRING", "")
    if isinstance(body, Spool):
        return read_raw_query(query)
    read_query(query, {})
    if isinstance(body, MultipartUpload):
        return read_fields(body.fields)
    values = read_json(body.read(), URL_FIELDS)
    require(values, ("project", "artifact_url", "sha256"), "in the JSON body")
    return values


def read_raw_query(query: str) -> Dict[str, Any]:
    """The query of a raw upload; admission reads it, too, so that a bad one is refused before the body."""
    values = read_query(query, RAW_FIELDS)
    require(values, ("project",), "in the query: ?project=ID")
    return values


def read_fields(fields: Dict[str, bytes]) -> Dict[str, Any]:
    """The text fields of a multipart launch."""
    values: Dict[str, Any] = {}
    for name, value in fields.items():
        if name == "left_out":
            values[name] = leftout.parse(parse_list(_decode(name, value)))
            continue
        field = RAW_FIELDS.get(name)
        values[name] = value if field is None else field.read(field.from_text(_decode(name, value)))
    require(values, ("project",), "as a form field")
    if "left_out" in values:
        require(values, ("sha256",), "as a form field, since parts of the artifact are left out")
    return values


def _decode(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise MalformedRequest(f"{name}: it is not UTF-8.", "Send the field as UTF-8 text.") from None


def _fetch(uploads: Uploads, url: str) -> Upload:
    path = staging.new_path(uploads.store, ".download")
    digest, size = download.fetch(url, path, uploads.limit_bytes, require_space=uploads.require_space)
    if not size:
        os.unlink(path)
        raise MalformedRequest("artifact_url: what is there is empty.", "Check the URL.")
    return Upload(path, digest, size)


def _check(expected: Optional[str], upload: Upload) -> None:
    try:
        if expected is not None:
            download.check_digest(expected, upload.digest)
    except Exception:
        remove_if_present(upload.path)
        raise
