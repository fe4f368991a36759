"""Parses bodies as JSON; refuses other bodies, objects with a key twice, or with many fields that the route does not know."""

import json
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute

from whimbrel.api.http_errors import NAMED, error_answer, invalid_fields
from whimbrel.api.models.envelope import Fault

DIGITS: Final = 4300


@dataclass(frozen=True, slots=True)
class ParsedBody:
    """The parsed value of a body."""

    value: Any


class RepeatedKey(dict[str, object]):
    """An object with a key twice; a plain dict would silently keep only the last value."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs
        self.name = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)


class ParsedRoute(APIRoute):
    """A route with large bodies: uses what was parsed outside the event loop, instead of parsing again in it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await handle(_Parsed(request.scope, request.receive))

        return handler


class _Parsed(Request):
    async def json(self) -> Any:
        return self.state.parsed.value


def parse(body: bytes, fields: frozenset[str] | None) -> ParsedBody | Response:
    """Returns the parsed body, or its refusal. Its depth was checked while it arrived."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return error_answer(400, "malformed", "The body is not UTF-8.")
    repeating: list[RepeatedKey] = []

    def checked_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
        members = dict(pairs)
        if len(members) < len(pairs):
            members = RepeatedKey(pairs)
            repeating.append(members)
        return members

    try:
        value = json.loads(text, object_pairs_hook=checked_object, parse_int=_bounded_integer)
    except ValueError as error:
        return error_answer(400, "malformed", f"The body is no JSON: {error}.")
    if repeating:
        return _repeated_key_refusal(value, repeating[0])
    return _unknown_fields_refusal(value, fields) or ParsedBody(value)


def _bounded_integer(digits: str) -> int:
    """Parses a whole number of limited length, as the time grows with its square. Python's own error would explain how to lift the limit."""
    if len(digits) > DIGITS:
        raise ValueError(f"a number has more than {DIGITS:,} digits")
    return int(digits)


def _repeated_key_refusal(value: object, repeating: RepeatedKey) -> Response:
    name, where = repeating.name[:80], _path_to(value, repeating) or "the top"
    return error_answer(
        400,
        "malformed",
        f"The body has the key {name!r} twice in one object, at {where[:200]!r}. Give it once.",
    )


def _unknown_fields_refusal(value: object, fields: frozenset[str] | None) -> Response | None:
    """Refuses many unknown fields, as each would cost part of an error. A few are reported with the other faults."""
    if fields is None or not isinstance(value, dict):
        return None
    unknown = [name for name in value if name not in fields]
    if len(unknown) <= NAMED:
        return None
    names = [name.encode(errors="replace").decode() for name in unknown[:NAMED]]
    faults = [Fault(field=f"body.{name}", message="Unknown here") for name in names]
    return invalid_fields(faults, len(unknown))


def _path_to(value: object, wanted: RepeatedKey) -> str | None:
    """Returns the path to an object; empty for the value itself, None where it is not in it."""
    if value is wanted:
        return ""
    for name, inner in _members(value):
        place = _path_to(inner, wanted)
        if place is not None:
            return name + (f".{place}" if place and place[0] != "[" else place)
    return None


def _members(value: object) -> Iterable[tuple[str, object]]:
    """Returns the members of an object or array, by name."""
    if isinstance(value, RepeatedKey):
        return value.pairs
    if isinstance(value, dict):
        return value.items()
    return [(f"[{index}]", member) for index, member in enumerate(value)] if isinstance(value, list) else ()
