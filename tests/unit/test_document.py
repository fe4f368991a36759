"""The OpenAPI document is complete: every status, field and parameter is described, and has an example that is true to it."""

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from whimbrel.api.app import create_app
from whimbrel.api.deployment import System
from whimbrel.api.openapi import operations
from whimbrel.settings import Settings
from whimbrel.workers.worker_pool import WorkerPool

Document = dict[str, Any]


@pytest.fixture(scope="module")
def document() -> Document:
    return create_app(System(Settings(), WorkerPool(), workers=False), ()).openapi()


def test_every_schema_and_field_is_described(document: Document) -> None:
    schemas = document["components"]["schemas"]
    assert [name for name, each in schemas.items() if not each.get("description")] == []
    fields = [
        f"{name}.{field}"
        for name, each in schemas.items()
        for field, its in each.get("properties", {}).items()
        if not its.get("description")
    ]
    assert fields == []


def test_every_parameter_is_described_and_has_an_example_or_a_default(document: Document) -> None:
    found = [
        f"{method} {path}: {each['name']}"
        for path, method, operation in operations(document)
        for each in operation.get("parameters", [])
        if not each.get("description")
        or not ({"examples", "example"} & each.keys() or {"examples", "default"} & each["schema"].keys())
    ]
    assert found == []


def contents(document: Document) -> Iterator[tuple[str, Document]]:
    for path, method, operation in operations(document):
        for code, response in operation["responses"].items():
            assert response["description"] not in ("", "Successful Response")
            for kind, content in response.get("content", {}).items():
                if kind == "application/json":
                    yield f"{method} {path} {code}", content


def test_every_answer_has_an_example_that_is_true_to_its_schema(document: Document) -> None:
    wrong = []
    for name, content in contents(document):
        schema = {**content["schema"], "components": document["components"]}
        wrong += [
            f"{name}: {fault.message}"
            for fault in Draft202012Validator(schema).iter_errors(content["example"])
        ]
    assert wrong == []


def test_every_route_tells_the_statuses_of_the_middleware(document: Document) -> None:
    for path, method, operation in operations(document):
        wanted = {"GET": {"422"}, "POST": {"400", "409", "413", "415", "422"}}.get(
            method, {"400", "413", "415"}
        )
        assert wanted <= operation["responses"].keys(), (method, path)


def test_a_started_run_links_to_what_can_be_done_with_it(document: Document) -> None:
    links = document["paths"]["/migrate"]["post"]["responses"]["202"]["links"]
    taken = {each["operationId"].partition("_")[0] for each in links.values()}
    assert {"status", "cancel", "pause", "resume", "failures", "events", "retry", "change"} <= taken
    assert all(
        each["parameters"] == {"path.migrationId": "$response.body#/migrationId"} for each in links.values()
    )


def test_no_two_paths_are_the_same_but_for_a_name(document: Document) -> None:
    shapes = [
        "/".join("{}" if part[:1] == "{" else part for part in path.split("/")) for path in document["paths"]
    ]
    assert len(shapes) == len(set(shapes))
