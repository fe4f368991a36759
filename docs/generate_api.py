"""Writes docs/api.md and docs/whimbrel.postman_collection.json from the OpenAPI document: `make reference`.

With --check it writes nothing, and ends with 1 where a file is not what would be written.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from whimbrel.api.app import create_app
from whimbrel.api.deployment import System
from whimbrel.api.models.envelope import MEANINGS
from whimbrel.api.openapi import IDEMPOTENCY, SCOPE, Document, operations, resolved
from whimbrel.settings import Settings
from whimbrel.workers.worker_pool import WorkerPool

HERE = Path(__file__).parent
SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"


def body_of(openapi: Document, operation: Document) -> Document:
    content = operation.get("requestBody", {}).get("content", {})
    return resolved(openapi, content.get("application/json", {}).get("schema", {}))


def kind(openapi: Document, schema: Document) -> str:
    """A schema in a word."""
    schema = resolved(openapi, schema)
    if "anyOf" in schema:
        return " or ".join(kind(openapi, each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    limits = (
        [f"{schema.get('minimum', '')}…{schema.get('maximum', '')}"]
        if {"minimum", "maximum"} & schema.keys()
        else []
    )
    return " ".join([str(schema.get("type", "anything")), *limits])


def rows(openapi: Document, operation: Document) -> Iterator[str]:
    for each in operation.get("parameters", []):
        if each == IDEMPOTENCY:
            continue  # of every POST
        told = each.get("description", each["schema"].get("description", ""))
        yield f"| `{each['name']}` | {each['in']} | {kind(openapi, each['schema'])} | {told} |"
    for name, schema in body_of(openapi, operation).get("properties", {}).items():
        yield f"| `{name}` | body | {kind(openapi, schema)} | {schema.get('description', '')} |"


def fields(openapi: Document, name: str) -> Iterator[str]:
    """The fields of an object that many answers hold."""
    yield from ["| field | | |", "| --- | --- | --- |"]
    for field, schema in openapi["components"]["schemas"][name]["properties"].items():
        yield f"| `{field}` | {kind(openapi, schema)} | {schema['description']} |"


def answers(operation: Document) -> str:
    """What a route answers with: what it alone says in words, what all say by its number."""
    responses: dict[str, Document] = dict(sorted(operation["responses"].items()))
    plain = {str(code): text for code, text in MEANINGS.items()}
    own = [
        f"{code} {each['description'].rstrip('.')}"
        for code, each in responses.items()
        if plain.get(code) != each["description"] and code != "403"
    ]
    common = [
        code for code in responses if plain.get(code) == responses[code]["description"] or code == "403"
    ]
    return f"Answers: {'; '.join(own)}." + (f" Also {', '.join(common)}." if common else "")


def route(openapi: Document, path: str, method: str, operation: Document) -> Iterator[str]:
    scope = operation.get(SCOPE)
    yield from [f"### {method} {path}", "", operation.get("description", operation["summary"]), ""]
    yield from [f"Scope: `{scope}`." if scope else "Needs no token.", ""]
    found = list(rows(openapi, operation))
    if found:
        yield from ["| field | in | | |", "| --- | --- | --- | --- |", *found, ""]
    yield from [answers(operation), ""]


def reference(openapi: Document) -> str:
    """The whole surface, for reading: what holds for all routes once, then each group."""
    groups: dict[str, list[str]] = {}
    for path, method, operation in operations(openapi):
        groups.setdefault(operation["tags"][0], []).extend(route(openapi, path, method, operation))
    statuses = [f"| {code} | {text} |" for code, text in MEANINGS.items()]
    lines = [
        *(HERE / "api_intro.md").read_text("utf-8").replace("STATUSES\n", "\n".join(statuses) + "\n").splitlines(), "",
        "## Objects", "",
        "### Run", "", "A row of a list is without `update`, `report` and `warnings`.", "", *fields(openapi, "Run"), "",
        "### Line", "", "A run in short: in lists with `slim`, and in GET /migrate/stream.", "", *fields(openapi, "RunLine"), "",
        "### Request", "", "A run's `request`.", "", *fields(openapi, "RequestOf"), "",
        "### Batch", "", *fields(openapi, "BatchOf"), "",
    ]  # fmt: skip
    for tag, found in groups.items():
        lines += [f"## {tag.capitalize()}", "", *found]
    return "\n".join(lines)


def postman(openapi: Document) -> Document:
    """A collection for Postman, a folder for each part."""
    folders: dict[str, list[Document]] = {}
    for path, method, operation in operations(openapi):
        parts = [f":{part[1:-1]}" if part.startswith("{") else part for part in path.strip("/").split("/")]
        asked = [each for each in operation.get("parameters", []) if each["in"] == "query"]
        request: Document = {
            "method": method,
            "description": operation.get("description", operation["summary"]),
            "header": [{"key": "Content-Type", "value": "application/json"}] if body_of(openapi, operation) else [],
            "url": {
                "raw": "{{baseUrl}}/" + "/".join(parts),
                "host": ["{{baseUrl}}"],
                "path": parts,
                "variable": [{"key": part[1:], "value": ""} for part in parts if part.startswith(":")],
                "query": [{"key": each["name"], "value": "", "disabled": True} for each in asked],
            },
        }  # fmt: skip
        if body_of(openapi, operation):
            request["body"] = {"mode": "raw", "raw": "{}"}
        folders.setdefault(operation["tags"][0], []).append({"name": f"{method} {path}", "request": request})
    return {
        "info": {
            "name": openapi["info"]["title"],
            "schema": SCHEMA,
            "description": openapi["info"]["description"],
        },
        "auth": {"type": "bearer", "bearer": [{"key": "token", "value": "{{token}}", "type": "string"}]},
        "variable": [{"key": "baseUrl", "value": "http://127.0.0.1:3000"}, {"key": "token", "value": ""}],
        "item": [{"name": name, "item": items} for name, items in folders.items()],
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    openapi = create_app(System(Settings(), WorkerPool(), workers=False), ()).openapi()
    wanted = {
        "api.md": reference(openapi),
        "whimbrel.postman_collection.json": json.dumps(postman(openapi), indent=1, ensure_ascii=False) + "\n",
    }
    stale = [
        name
        for name, text in wanted.items()
        if not (HERE / name).exists() or (HERE / name).read_text("utf-8") != text
    ]
    if check and stale:
        sys.stderr.write(f"docs/{', docs/'.join(stale)}: not what the routes say. Run: make reference\n")
        return 1
    for name in stale:
        (HERE / name).write_text(wanted[name], "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
