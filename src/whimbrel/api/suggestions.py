"""Suggests what was meant by a name that a route does not know."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from whimbrel.plain_wording import plain

ALIKE: Final = 0.6  # similarity of two names at which one may be meant by the other
# Other words for the same, in lower case and without punctuation.
WORDS: Final[Mapping[str, Sequence[str]]] = {
    "migration": ("name", "migrationname", "model", "definition"),
    "filters": ("query", "where", "match", "selector", "condition"),
    "batchSize": ("size", "batch", "chunk", "chunksize"),
    "maxDocsPerSecond": ("rate", "maxrate", "ratelimit", "docspersecond", "speed"),
    "dryRun": ("dry", "preview", "simulate", "plan"),
    "ids": ("id", "documents", "documentids"),
    "count": ("n", "number", "amount", "total", "documents", "limit", "size"),
    "zone": ("timezone", "tz"),
    "cron": ("schedule", "expression", "cronschedule", "cronexpression"),
    "confirm": ("confirmation", "confirmed", "yes"),
    "from": ("status", "statuses", "state", "states"),
    "enabled": ("active", "on"),
    "status": ("state",),
    "state": ("status",),
    "cursor": ("page", "offset", "skip", "after", "next", "nextcursor"),
    "limit": ("count", "size", "perpage", "pagesize", "top", "max"),
    "parentJobId": ("parent", "run", "runid", "migrationid", "jobid"),
    "jobType": ("type", "kind"),
}


def closest_name(given: str, known: Iterable[str]) -> str:
    """Returns the known name that is probably meant by another one; empty where none is."""
    names = {_letters_and_digits(name_known): name_known for name_known in known}
    bare = _letters_and_digits(given[:100])
    if bare in names:
        return names[bare]
    for name, synonyms in WORDS.items():
        if bare in synonyms and _letters_and_digits(name) in names:
            return names[_letters_and_digits(name)]
    matches = difflib.get_close_matches(bare, names, n=1, cutoff=ALIKE)
    return names[matches[0]] if matches else ""


def unknown(given: str, known: Iterable[str]) -> str:
    """Returns the message about a name that a route does not know."""
    name = closest_name(given, known)
    return f"Unknown here: did you mean {name!r}?" if name else "Unknown here"


def suggestion(request: Request, fault: Mapping[str, Any]) -> str:
    """Returns the message about a field that the framework refuses."""
    place = fault["loc"]
    if fault["type"] == "extra_forbidden" and place[:1] == ("body",) and len(place) == 2:  # noqa: PLR2004  a field of it
        return unknown(str(place[1]), _body_fields(request.scope["route"]))
    if fault["type"] == "string_pattern_mismatch":
        example = _example_of(request, place)
        return f"it has not the form that is needed{f': give one such as {example}' if example else ''}"
    return plain(str(fault["msg"]))


def _example_of(request: Request, place: Sequence[int | str]) -> str:
    """Returns the example that the documentation of a route has of a parameter, or of a field of its body; empty where it has none."""
    route: APIRoute = request.scope["route"]
    dependant = route.dependant
    parameters = (*dependant.path_params, *dependant.query_params, *dependant.header_params)
    known = {parameter.alias: parameter.field_info for parameter in parameters} | _body_fields(route)
    field = known.get(str(place[1])) if len(place) > 1 else None
    example: Any = None if field is None else field.examples
    while isinstance(example, list):
        example = next(iter(example), None)
    return "" if example is None else str(example)


def _body_fields(route: APIRoute) -> dict[str, FieldInfo]:
    """Returns the fields of a route's body, by the names that clients use."""
    kinds = [parameter.field_info.annotation for parameter in route.dependant.body_params]
    models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return {field.alias or name: field for model in models for name, field in model.model_fields.items()}


def _letters_and_digits(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
