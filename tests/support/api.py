"""The description of the API, as a check of what is answered: nothing but what it says."""

from __future__ import annotations

import re
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from tests.support import schema
from tests.support.http import Response

METHODS = ("get", "post", "put", "delete")


def is_endless(operation: Mapping[str, Any]) -> bool:
    """Whether the call's answer goes on until the caller leaves."""
    return "text/event-stream" in operation["responses"]["200"]["content"]


class Description:
    """An OpenAPI 3.1 document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self._paths = [(re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))), path) for path in document["paths"]]

    def operations(self) -> Iterator[Tuple[str, str, Dict[str, Any]]]:
        """(method, path, operation) of each call."""
        for path, methods in self.document["paths"].items():
            for method, operation in methods.items():
                assert method in METHODS, method
                yield method.upper(), path, operation

    def find(self, method: str, target: str) -> Optional[Dict[str, Any]]:
        """The operation that such a call is, None for what is no call of ours."""
        method = {"HEAD": "get"}.get(method, method.lower())
        target = target.partition("?")[0]
        paths = (path for pattern, path in self._paths if pattern.fullmatch(target))
        found = [self.document["paths"][path][method] for path in paths if method in self.document["paths"][path]]
        return found[0] if found else None

    def check(self, operation: Mapping[str, Any], answer: Response, with_body: bool = True) -> None:
        """AssertionError unless the answer has a status, a type and (if it is JSON) a body that the description names."""
        responses = operation["responses"]
        assert str(answer.status) in responses, f"{operation['operationId']} may not answer {answer}"
        response = responses[str(answer.status)]
        if "$ref" in response:
            response = schema.resolve(response["$ref"], self.document)
        kinds = {kind.partition(";")[0]: each for kind, each in response["content"].items()}
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind in kinds, f"{operation['operationId']} may not answer {kind} with {answer.status}: {list(kinds)}"
        for name in response.get("headers", {}):
            assert name.lower() in answer.headers, f"{name} is missing: {answer.headers}"
        if with_body and kind.endswith("json"):
            assert list(schema.problems(answer.json, kinds[kind]["schema"], self.document)) == [], answer
