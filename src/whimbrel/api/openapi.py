"""Completes the OpenAPI document, which the routes declare, with what holds for all routes.

Every answer has a description and an example, each route lists the statuses of the middleware beside
its own, and links say which answer has the id that another request needs.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from starlette.routing import Route

from whimbrel.api.http_errors import METHODS
from whimbrel.api.middleware.admission_control import LIVE
from whimbrel.api.middleware.idempotency import KEY
from whimbrel.api.middleware.request_bodies import WITH_BODY
from whimbrel.api.models.envelope import MEANINGS, Failure
from whimbrel.api.route_requirements import RouteRequirements

Document = dict[str, Any]
SCOPE: Final = "x-scope"  # of an operation: what a token must allow

IDEMPOTENCY: Final[Document] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "a request that is sent again with the same key gets the first answer again, and is not carried out again; 409 in_progress where nobody knows whether the first one was",
    "schema": {"type": "string", "pattern": f"^{KEY}$", "maxLength": 200},
    "example": "2f1a9c3e-start",
}
WAIT: Final[Document] = {
    "Retry-After": {
        "description": "seconds until it may be tried again",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    }
}
EXAMPLES: Final[Mapping[int, tuple[str, str]]] = {
    400: ("malformed", "The body is no JSON: Expecting value: line 1 column 1 (char 0)."),
    401: ("unauthenticated", "Send a token: Authorization: Bearer TOKEN."),
    403: ("forbidden", "This needs a token of the scope operate; yours is of read."),
    404: ("run_unknown", "There is no run '20261124-abc234'. GET /migrate lists them."),
    408: ("timed_out", "The request did not come in time. Send it at once."),
    409: ("state_forbids", "Run 20261124-k3f9x2 is completed: it cannot be cancelled."),
    413: ("too_large", "The body is larger than 1,048,576 bytes."),
    415: ("unsupported_type", "The body is text/plain. Send JSON as application/json."),
    422: (
        "invalid",
        "These fields cannot be used: body.batchSize: Input should be greater than or equal to 1.",
    ),
    429: ("too_many", "More than 120 per 1 minute of such requests. Try again in 12 seconds."),
    503: ("database_unreachable", "MongoDB does not answer. Check MONGODB_URI, and that the server runs."),
}
# Path parameters that an answer can provide, and where. Not from lists, which may be empty.
SOURCES: Final[Mapping[str, tuple[str, ...]]] = {
    "migrationId": ("migrationId", "migration/migrationId"),
    "name": ("schedule/name",),
}


def install(app: FastAPI) -> None:
    """Makes the application answer with the completed document."""
    plain = app.openapi

    def openapi() -> Document:
        if app.openapi_schema is None:
            complete(plain(), scopes(app))
        return plain()

    app.openapi = openapi  # type: ignore[method-assign]
    _render_once(app)


def _render_once(app: FastAPI) -> None:
    """Renders the document only once, as it takes 25 ms of the event loop, and any client may ask for it."""

    @cache
    def body() -> bytes:
        return json.dumps(app.openapi(), ensure_ascii=False, separators=(",", ":")).encode()

    async def answer(_: Request) -> Response:
        return Response(body(), media_type="application/json")

    url = app.openapi_url or ""
    (route,) = [candidate for candidate in app.router.routes if getattr(candidate, "path", None) == url]
    index = app.router.routes.index(route)
    app.router.routes[index] = Route(url, answer, include_in_schema=False)


def scopes(app: FastAPI) -> dict[str, str]:
    """Returns the scope that a token needs, by the operation's id, without routes that need no token."""
    return {
        requirement.operation: requirement.needs
        for requirement in RouteRequirements(app.routes).entries
        if requirement.needs is not None
    }


def complete(document: Document, scopes: Mapping[str, str]) -> None:
    """Adds to a document, in place, what holds for all routes. `scopes`: what tokens must allow, by the operation's id."""
    for path, method, operation in operations(document):
        _parameters(method, operation)
        _statuses(path, method, operation)
        _scope(operation, scopes)
        for code, response in operation["responses"].items():
            _answer(document, int(code), response)
    for schema in document["components"]["schemas"].values():
        _make_limits_integers(schema)
    _add_links(document)
    _add_head_operations(document)


def operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    """Yields path, method and description of each route, in the order of definition."""
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method.lower() in methods:
                yield path, method, methods[method.lower()]


def _parameters(method: str, operation: Document) -> None:
    if method == "POST":
        operation.setdefault("parameters", []).append(IDEMPOTENCY)


def _statuses(path: str, method: str, operation: Document) -> None:
    """Adds the statuses of the middleware, which checks caller and body of all requests, and the keys of POSTs."""
    codes = {401, 403, 422, 429}
    codes |= set() if path == LIVE else {503}
    codes |= {400, 408, 413, 415} if method in WITH_BODY else set()
    codes |= {409} if method == "POST" else set()
    reference = {"$ref": f"#/components/schemas/{Failure.__name__}"}
    for code in codes:
        operation["responses"].setdefault(
            str(code),
            {"description": MEANINGS[code], "content": {"application/json": {"schema": reference}}},
        )
    operation["responses"] = dict(sorted(operation["responses"].items()))


def _scope(operation: Document, scopes: Mapping[str, str]) -> None:
    scope = scopes.get(operation["operationId"])
    if scope is not None:
        operation[SCOPE] = scope
        operation["responses"]["403"]["description"] = f"{MEANINGS[403]}: it takes `{scope}`"


def _answer(document: Document, code: int, response: Document) -> None:
    content = response.get("content", {}).get("application/json")
    if content is None:
        return
    schema = resolved(document, content["schema"])
    if response["description"] == "Successful Response":
        response["description"] = schema["description"]
    content["example"] = example(document, schema)
    if schema["title"] == Failure.__name__:
        word, sentence = EXAMPLES[code]
        content["example"] |= {"code": word, "error": sentence}
        if code != 422:  # noqa: PLR2004
            del content["example"]["details"]
    if code == 429:  # noqa: PLR2004
        response["headers"] = WAIT


def resolved(document: Document, schema: Document) -> Document:
    """Returns the schema that a reference means, or the schema itself."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def example(document: Document, schema: Document) -> Any:
    """Returns a value of a schema, made of the examples of its parts."""
    if "examples" in schema:
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    if "$ref" in schema:
        return example(document, resolved(document, schema))
    if "properties" in schema:
        return {name: example(document, part) for name, part in schema["properties"].items()}
    if schema.get("type") == "array":
        return [example(document, schema["items"])]
    if "default" in schema:
        return schema["default"]
    return example(document, schema["anyOf"][0])


def _make_limits_integers(schema: Document) -> None:
    """Makes the limits of integers integers."""
    for field in schema.get("properties", {}).values():
        for part in (field, *field.get("anyOf", ())):
            for limit in ("minimum", "maximum"):
                if part.get("type") == "integer" and limit in part:
                    part[limit] = int(part[limit])


def _add_links(document: Document) -> None:
    """Adds links from each answer with an id to the requests that need it."""
    for _, _, giver in operations(document):
        for code, response in giver["responses"].items():
            if not code.startswith("2"):
                continue
            example_answer = response.get("content", {}).get("application/json", {}).get("example", {})
            for name, places in SOURCES.items():
                place = next((candidate for candidate in places if _holds(example_answer, candidate)), None)
                if place is not None:
                    response.setdefault("links", {}).update(_links_to(document, giver, name, place))


def _add_head_operations(document: Document) -> None:
    """Adds HEAD to each route with GET: the same without a body."""
    for methods in document["paths"].values():
        if "get" not in methods:
            continue
        get: Document = methods["get"]
        common: Document = {
            name: get[name] for name in ("tags", "parameters", "security", SCOPE) if name in get
        }
        responses: Document = {
            code: {name: response[name] for name in ("description", "headers") if name in response}
            for code, response in get["responses"].items()
        }
        head: Document = {
            **common,
            "operationId": f"{get['operationId']}_head",
            "summary": get["summary"],
            "description": "The headers of GET, without its body.",
            "responses": responses,
        }
        methods["head"] = head


def _holds(value: Any, place: str) -> bool:
    for part in place.split("/"):
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return isinstance(value, str)


def _links_to(document: Document, giver: Document, name: str, place: str) -> Document:
    return {
        f"{taker['operationId']}_by_{name}": {
            "operationId": taker["operationId"],
            "parameters": {f"path.{name}": f"$response.body#/{place}"},
            "description": taker["summary"],
        }
        for path, _, taker in operations(document)
        if f"{{{name}}}" in path and taker is not giver and _takes(taker, name)
    }


def _takes(operation: Document, name: str) -> bool:
    """Whether it wants an id there: POST /migrate/batch/{batch} wants a number."""
    return any(
        parameter["name"] == name and parameter["schema"].get("type") == "string"
        for parameter in operation.get("parameters", ())
    )
