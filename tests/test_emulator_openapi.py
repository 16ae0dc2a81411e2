import json
from importlib.resources import files
from typing import Any

import pytest

from emulator.api import _SIGN_IN, FEED, OPERATIONS
from schemas.contract import api_errors
from tests.emulator_visitor import visiting

DOCUMENT: dict[str, Any] = json.loads((files("emulator") / "data" / "openapi.json").read_bytes())
CODES = {code for code in api_errors() if not code.startswith("AADSTS")}


def test_description_is_served_as_it_stands() -> None:
    with visiting() as visitor:
        assert visitor.send("GET", "/openapi.json").json() == DOCUMENT


def test_description_has_exactly_the_routes_that_are_served() -> None:
    described = {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}
    served = {(op.method, FEED + op.path) for op in OPERATIONS} | {(method, path) for method, path, _ in _SIGN_IN}
    assert described == served


def test_operations_have_the_names_of_the_service() -> None:
    names = {op.name: DOCUMENT["paths"][FEED + op.path][op.method.lower()]["operationId"] for op in OPERATIONS}
    assert all(name == described for name, described in names.items())


def test_description_has_exactly_the_error_codes_of_the_contract() -> None:
    code = DOCUMENT["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"]
    assert set(code["anyOf"][0]["enum"]) == CODES


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_each_error_code_stands_under_its_status(operation: Any) -> None:
    responses = DOCUMENT["paths"][FEED + operation.path][operation.method.lower()]["responses"]
    for status, response in responses.items():
        for code in response.get("x-error-codes", []):
            assert str(api_errors()[code].http) == status


def test_every_error_code_is_some_operations() -> None:
    used = {
        code
        for item in DOCUMENT["paths"].values()
        for operation in item.values()
        for response in operation["responses"].values()
        for code in response.get("x-error-codes", [])
    }
    assert used == CODES


def test_every_reference_leads_somewhere() -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            return [node["$ref"]] if "$ref" in node else [r for value in node.values() for r in references(value)]
        return [r for value in node for r in references(value)] if isinstance(node, list) else []

    for reference in references(DOCUMENT):
        node = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
