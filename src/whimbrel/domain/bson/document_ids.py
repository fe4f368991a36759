"""Converts values and ids of documents to and from Extended JSON."""

import json
from typing import Any

from bson import json_util
from bson.errors import BSONError

from whimbrel.domain.bson.extended_json import read
from whimbrel.domain.bson.raw_bson import ARRAY, REGEX, Key

REFERENCE = ("$ref", "$id", "$db")  # fields with a dollar sign that documents may have


def relaxed(value: Any) -> Any:
    """Returns a value of MongoDB as a JSON value, in relaxed Extended JSON: whole numbers and doubles are plain."""
    return json.loads(json_util.dumps(value, json_options=json_util.RELAXED_JSON_OPTIONS))


def canonical(value: Any) -> Any:
    """Returns the same in canonical Extended JSON, which tells every type."""
    return json.loads(json_util.dumps(value, json_options=json_util.CANONICAL_JSON_OPTIONS))


def id_json(key: Key) -> Any:
    """Returns an `_id` as relaxed Extended JSON."""
    return relaxed(key.value)


def parse_id(value: Any) -> Key:
    """Returns the key of an `_id` that was written in Extended JSON, and read as plain JSON.

    Raises ValueError for what is not Extended JSON, or cannot be an `_id`.
    """
    try:
        document_id = read(value)
        key = Key.of(document_id)
    except (BSONError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"no Extended JSON: {str(error)[:200]}") from error
    if key.kind in (ARRAY, REGEX):
        raise ValueError("an array or a regular expression cannot be the _id of a document")
    names = list(document_id) if isinstance(document_id, dict) else []
    operator = next((name for name in names if name.startswith("$") and name not in REFERENCE), None)
    if operator is not None:
        raise ValueError(f"{operator[:40]} is an operator, which cannot stand in the _id of a document")
    return key
