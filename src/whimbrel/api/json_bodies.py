"""A body as JSON: what is none is refused, and so is an object with a key twice, or with many fields that the route does not know."""

import json
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute

from whimbrel.api.http_errors import NAMED, error_answer, unusable
from whimbrel.api.models.envelope import Fault

DIGITS: Final = 4300


@dataclass(frozen=True, slots=True)
class ParsedBody:
    """What a body says."""

    value: Any


class RepeatedKey(dict[str, object]):
    """An object with a key twice. A dict takes the last value of it, and forgets the other."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs
        self.name = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)


class ParsedRoute(APIRoute):
    """A route whose bodies may be large: it takes what was parsed beside the event loop, and does not parse once more in it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await handle(_Parsed(request.scope, request.receive))

        return handler


class _Parsed(Request):
    async def json(self) -> Any:
        return self.state.parsed.value


def parse(body: bytes, fields: frozenset[str] | None) -> ParsedBody | Response:
    """What it says, or why it is refused. It is not too deep: that was looked at while it came."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return error_answer(400, "malformed", "The body is not UTF-8.")
    repeating: list[RepeatedKey] = []

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            found = RepeatedKey(pairs)
            repeating.append(found)
        return found

    try:
        told = json.loads(text, object_pairs_hook=once, parse_int=_whole)
    except ValueError as error:
        return error_answer(400, "malformed", f"The body is no JSON: {error}.")
    if repeating:
        return _twice(told, repeating[0])
    return _unknown(told, fields) or ParsedBody(told)


def _whole(digits: str) -> int:
    """The time that a number takes grows with the square of its length: Python has this limit too, and tells how to switch it off."""
    if len(digits) > DIGITS:
        raise ValueError(f"a number has more than {DIGITS:,} digits")
    return int(digits)


def _twice(told: object, repeating: RepeatedKey) -> Response:
    name, where = repeating.name[:80], _place(told, repeating) or "the top"
    return error_answer(
        400,
        "malformed",
        f"The body has the key {name!r} twice in one object, at {where[:200]!r}. Give it once.",
    )


def _unknown(told: object, fields: frozenset[str] | None) -> Response | None:
    """Where they are many. A few are found with all else that is wrong; of very many each would cost its part of an error."""
    if fields is None or not isinstance(told, dict):
        return None
    unknown = [name for name in told if name not in fields]
    if len(unknown) <= NAMED:
        return None
    names = [name.encode(errors="replace").decode() for name in unknown[:NAMED]]
    faults = [Fault(field=f"body.{name}", message="Unknown here") for name in names]
    return unusable(faults, len(unknown))


def _place(value: object, wanted: RepeatedKey) -> str | None:
    """The path to an object; empty for the whole, None where it is not in there."""
    if value is wanted:
        return ""
    for name, inner in _inner(value):
        found = _place(inner, wanted)
        if found is not None:
            return name + (f".{found}" if found and found[0] != "[" else found)
    return None


def _inner(value: object) -> Iterable[tuple[str, object]]:
    """What an object or array holds, by its name there."""
    if isinstance(value, RepeatedKey):
        return value.pairs
    if isinstance(value, dict):
        return value.items()
    return [(f"[{at}]", each) for at, each in enumerate(value)] if isinstance(value, list) else ()
