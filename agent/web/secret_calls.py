"""The calls about secrets. A value comes in and goes nowhere but into its file: no answer, message or log line holds one."""

from __future__ import annotations

from typing import Any, Dict, Tuple

from agent.errors import MalformedRequest
from agent.web.call import Call, parse_object

_HINT = 'Send the value as the body, or as JSON {"value": "…"}.'


def put_secret(call: Call) -> Tuple[int, Dict[str, Any]]:
    value = read_value(call.environ["wsgi.input"].read(), call.environ.get("CONTENT_TYPE", ""))
    return call.services.operations.put_secret(call.services.agent, call.values["project"], call.values["name"], value)


def delete_secret(call: Call) -> Tuple[int, Dict[str, Any]]:
    return 200, call.services.operations.delete_secret(call.services.agent, call.values["project"], call.values["name"])


def secret_names(call: Call) -> Tuple[int, Dict[str, Any]]:
    return 200, call.services.operations.secret_names(call.services.agent, call.values["project"])


def read_value(body: bytes, content_type: str) -> bytes:
    """The body as it is; of `application/json` the member `value`. MalformedRequest for none, which never quotes what came."""
    if content_type.partition(";")[0].strip().lower() == "application/json":
        document = parse_object(body)
        value = document.get("value")
        if not isinstance(value, str) or len(document) != 1:
            raise MalformedRequest("value: the JSON body is to hold it as text, and nothing else.", _HINT)
        try:
            body = value.encode()
        except UnicodeEncodeError:
            raise MalformedRequest("value: it is no text.", _HINT) from None
    if not body:
        raise MalformedRequest("value: it is empty.", _HINT)
    return body
