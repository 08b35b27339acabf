"""The description of the API says what the readers of values, the errors and the state machine do."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterator, Mapping, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import KINDS, MalformedRequest
from agent.shim import machine
from agent.web import answers, openapi
from agent.web.call import Field
from agent.web.routes import ROUTES
from tests.support import schema
from tests.support.api import Description

DOCUMENT = openapi.describe(ROUTES)
DESCRIPTION = Description(DOCUMENT)
FIELDS: Dict[str, Field] = {
    f"{route.method} {route.path} {name}": each
    for route in ROUTES
    for source in (route.query, route.fields)
    for name, each in source.items()
}


def test_every_route_is_described_once() -> None:
    described = [(method, path.replace("{", "<").replace("}", ">")) for method, path, _ in DESCRIPTION.operations()]
    assert sorted(described) == sorted((route.method, route.path) for route in ROUTES)
    identities = [operation["operationId"] for _, _, operation in DESCRIPTION.operations()]
    assert len(set(identities)) == len(identities)
    missing = {route.name for route in ROUTES} ^ set(answers.CALLS)
    assert not missing, "agent/web/answers.py has to say what these calls answer"


def nodes(value: Any) -> Iterator[Any]:
    yield value
    for child in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from nodes(child)


def test_the_document_is_json_whose_references_resolve_and_of_which_nothing_is_unused() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
    used = {node["$ref"] for node in nodes(DOCUMENT) if isinstance(node, Mapping) and "$ref" in node}
    for reference in used:
        schema.resolve(reference, DOCUMENT)
    components = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert components <= used


def test_everything_but_ping_needs_a_key_and_says_what_it_refuses() -> None:
    for _, path, operation in DESCRIPTION.operations():
        if path == "/ping":
            assert operation["security"] == []
        else:
            assert "security" not in operation, "the document's own counts"
            assert {"400", "401", "403", "421", "429", "503"} <= set(operation["responses"])


def test_states_and_errors_are_the_code_s_own() -> None:
    assert set(answers.SCHEMAS["Status"]["properties"]["state"]["enum"]) == set(machine.STATES)
    described = set(DOCUMENT["components"]["responses"])
    assert {str(kind.status) for kind in KINDS.values()} <= described


def bodies() -> Iterator[Tuple[str, str, Any, Any]]:
    for method, path, operation in DESCRIPTION.operations():
        for kind, body in operation.get("requestBody", {"content": {}})["content"].items():
            yield f"{method} {path} {kind}", kind, body["schema"], body["example"]


@pytest.mark.parametrize(("kind", "its_schema", "example"), [each[1:] for each in bodies()], ids=[each[0] for each in bodies()])
def test_examples_are_what_their_schemas_say(kind: str, its_schema: Any, example: Any) -> None:
    assert list(schema.problems(example, its_schema, DOCUMENT)) == []
    for _, _, operation in DESCRIPTION.operations():
        for parameter in operation["parameters"]:
            if "example" in parameter:
                assert list(schema.problems(parameter["example"], parameter["schema"], DOCUMENT)) == []


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 2_000_000), st.integers(), st.floats(allow_nan=False), st.text(max_size=70),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.from_regex(r"\A[a-zA-Z0-9._+-]{0,3}\Z"), st.from_regex(r"\A[0-9a-fA-F]{63,65}\Z"), st.sampled_from([".", "..", "web\n"]),
    st.sampled_from(["tar", "text", "gzip", "none", "last", "true", "2026-01-31T12:04:31Z", "0001-01-01T00:00:00Z"]),
    st.dates().map(str), st.datetimes().map(lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")),
)  # fmt: skip


def is_taken(field: Field, value: object) -> bool:
    try:
        field.read(value)
    except MalformedRequest as error:
        return not (error.detail and error.hint)
    return True


@pytest.mark.parametrize("name", FIELDS)
@settings(derandomize=True, deadline=None)
@given(value=VALUES)
def test_a_field_reads_what_its_schema_says_and_nothing_else(name: str, value: object) -> None:
    field = FIELDS[name]
    wrong = list(schema.problems(value, field.schema, DOCUMENT))
    taken = is_taken(field, value)
    if not wrong:
        assert taken, value
    elif not any(form in str(field.schema) for form in ("date", "uri")):  # more is taken than these forms say
        assert not taken, (value, wrong)
