"""Checks which filters are refused, and turns a filter that names the status field into a phase.

A filter must select the same documents whenever it is evaluated: that happens again at every chunk,
after every crash, and in the sweep.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from json import JSONDecodeError
from typing import Any

from bson.errors import BSONError

from whimbrel.domain.bson.encoding import encoded, survives_encoding
from whimbrel.domain.bson.extended_json import Repeated, TooDeep, Unreadable, below, parse, read
from whimbrel.domain.bson.raw_bson import decoded
from whimbrel.domain.bson.uuids import UNSPECIFIED, stored, writing
from whimbrel.errors import FilterRefused

DEEPEST = 20  # levels; people do not write deeper filters

UNLIKE = "it selects other documents each time it is asked"
REFUSED = {
    "$where": "it runs JavaScript on the server",
    "$function": "it runs JavaScript on the server",
    "$accumulator": "it runs JavaScript on the server",
    "$text": "a text search cannot be combined with the ranges of _id that batches are",
    "$near": "it sorts by distance, and batches are ranges of _id",
    "$nearSphere": "it sorts by distance, and batches are ranges of _id",
    "$rand": UNLIKE,
    "$sampleRate": UNLIKE,
}

# In expressions, which stand in $expr: variables and operators whose value does not follow from the document.
EXPRESSION = "$expr"
LITERALS = ("$literal", "$const")  # their content is a value
# MongoDB's own variables that are always the same.
STEADY = ("CURRENT", "ROOT", "REMOVE", "DESCEND", "PRUNE", "KEEP")
VARYING = {
    "NOW": "it is the time of each statement. Write the date itself; in a migration's Python, datetime.now(UTC) is evaluated once, when a run starts",
    "CLUSTER_TIME": "it is the time of each statement. Write the timestamp itself",
    "USER_ROLES": "it depends on who asks",
}
REFUSED_THERE = {"$meta": "it tells how a document was found, not what is in it"}

UNSTORABLE = (BSONError, OverflowError, TypeError, ValueError)

# The status that each phase starts from.
PHASE_STATUS = {"pending": "pending", "processing": "processing", "failed": "failed"}


def check_filter(filter_: Mapping[str, Any]) -> None:
    """Raises FilterRefused, with the place and the reason, for an operator that is refused at any depth."""
    _check(filter_, "", 0)
    _check_varying(filter_, "")
    try:
        faithful = survives_encoding(stored(filter_, writing(UNSPECIFIED)))
    except UNSTORABLE as error:
        place = _unstorable(filter_, "")
        raise FilterRefused(
            f"The filter holds a value that MongoDB cannot store, at {place!r}: {error}."
        ) from error
    if not faithful:
        raise FilterRefused(
            "The filter holds a field twice, or a value of a type that MongoDB has given up (undefined, symbol, DBPointer). Write it without."
        )


def _check(value: Any, place: str, level: int) -> None:
    if level > DEEPEST:
        raise FilterRefused(
            f"The filter is nested more than {DEEPEST} levels deep at {place[:80]!r}. Write it flatter."
        )
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise FilterRefused(
                    f"The filter has a field name that is no text at {place or 'the top'!r}: {key!r}."
                )
            path = below(place, key)
            if key in REFUSED:
                raise FilterRefused(f"The filter uses {key} at {path!r}, which is refused: {REFUSED[key]}.")
            if "\0" in key:
                raise FilterRefused(f"The filter has a NUL character in a field name at {path!r}.")
            _check(inner, path, level + 1)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _check(inner, below(place, index), level + 1)


def _check_varying(value: Any, place: str, *, expression: bool = False) -> None:
    """Raises FilterRefused for expressions whose value differs each time. Texts outside of expressions are only texts."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            path = below(place, key)
            if expression and key in REFUSED_THERE:
                raise FilterRefused(
                    f"The filter uses {key} at {path!r}, which is refused: {REFUSED_THERE[key]}."
                )
            if not (expression and key in LITERALS):
                _check_varying(inner, path, expression=expression or key == EXPRESSION)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _check_varying(inner, below(place, index), expression=expression)
    elif expression and isinstance(value, str) and (name := _varying_variable(value)):
        why = VARYING.get(name, "it is not known to be the same each time it is asked")
        raise FilterRefused(f"The filter uses $${name[:40]} at {place!r}, which is refused: {why}.")


def _varying_variable(text: str) -> str:
    """Returns MongoDB's own variable that a text of an expression names, unless that is always the same; a filter's own begin with a small letter."""
    name = text[2:].partition(".")[0] if text.startswith("$$") else ""
    return name if name[:1].isascii() and name[:1].isupper() and name not in STEADY else ""


def _unstorable(value: Any, place: str) -> str:
    """Returns the place of a value that BSON does not have."""
    parts: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    for name, inner in parts:
        try:
            encoded(stored({"v": inner}, writing(UNSPECIFIED)))
        except UNSTORABLE:
            return _unstorable(inner, below(place, name))
    return place


def parse_filter(text: str) -> dict[str, Any]:
    """Reads a filter from a text of Extended JSON, as MongoDB's shell understands it.

    Raises FilterRefused that says where the text cannot be read, or what is refused in it.
    """
    return _read(lambda: parse(text), text)


def read_filter(filters: Mapping[str, Any]) -> dict[str, Any]:
    """Reads a filter from Extended JSON that was read as plain JSON already."""
    return _read(lambda: read(filters), str(filters))


def _read(reader: Callable[[], Any], text: str) -> dict[str, Any]:
    try:
        query = reader()
    except TooDeep as error:
        raise FilterRefused(
            f"The filter is nested more than {DEEPEST} levels deep. Write it flatter."
        ) from error
    except Repeated as error:
        place = error.place or "the top"
        raise FilterRefused(f"At {place!r} the filter has {error.why}. Join the two with $and.") from error
    except Unreadable as error:
        place = f" at {error.place!r}" if error.place else ""
        raise FilterRefused(f"The filter is not Extended JSON{place}: {error.why}.") from error
    except JSONDecodeError as error:
        raise FilterRefused(
            f"The filter is not Extended JSON at line {error.lineno}, column {error.colno}: {error.msg}. "
            'Write it such as \'{"status": "pending"}\'.'
        ) from error
    if not isinstance(query, dict):
        raise FilterRefused(
            f'The filter must be a document such as \'{{"status": "pending"}}\', not {text[:80]!r}.'
        )
    check_filter(query)
    return decoded(encoded(query))


def listed_ids(query: Mapping[str, Any]) -> Sequence[Any] | None:
    """Returns the ids that a query lists, `{"_id": {"$in": [...]}}` with or without other conditions; None where it lists none."""
    for name, clause in conditions(query):
        if name == "_id" and isinstance(clause, Mapping):
            listed = clause.get("$in")
            if isinstance(listed, list | tuple):
                return listed
    return None


def without_id_conditions(query: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a query without its conditions on `_id` alone: documents that satisfied it once still satisfy those."""
    return all_of(*({name: clause} for name, clause in conditions(query) if name != "_id"))


def conditions(query: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields the conditions that a document must all satisfy, each with its field or operator."""
    for name, clause in query.items():
        if name == "$and":
            for inner in clause:
                yield from conditions(inner)
        else:
            yield name, clause


def all_of(*queries: dict[str, Any]) -> dict[str, Any]:
    """Returns the query that is satisfied where each of these is."""
    parts = [query for query in queries if query]
    return {"$and": parts} if len(parts) > 1 else parts[0] if parts else {}


def split_status(filter_: Mapping[str, Any], status_field: str) -> tuple[dict[str, Any], str | None]:
    """Splits a filter into its conditions on the documents and the phase that its status clause means.

    The status clause belongs to the phase (hole H22): `{"status": "pending"}` would never match a
    document that failed. Returns the filter without the clause, and the phase or None.

    Raises FilterRefused where the clause is anything but one of the statuses that a phase starts from.
    """
    others = {key: value for key, value in filter_.items() if key != status_field}
    if _mentions(others, status_field):
        raise FilterRefused(
            f"The filter names the status field {status_field!r} inside another condition. The phases of a run go by that field: "
            f"leave it out, or give it alone as {{{status_field!r}: 'pending'}}, 'processing' or 'failed'."
        )
    if status_field not in filter_:
        return others, None
    clause = filter_[status_field]
    if isinstance(clause, Mapping) and list(clause) == ["$eq"]:
        clause = clause["$eq"]
    if not isinstance(clause, str) or clause not in PHASE_STATUS:
        raise FilterRefused(
            f"The filter asks for {status_field!r} = {clause!r}. The phases of a run go by that field: it can be 'pending', 'processing' or 'failed'."
        )
    return others, clause


def _mentions(value: Any, name: str) -> bool:
    if isinstance(value, Mapping):
        return any(key == name or _mentions(inner, name) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return any(_mentions(inner, name) for inner in value)
    return bool(value == f"${name}")
