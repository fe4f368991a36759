"""Values and ids of documents as Extended JSON, in and out."""

import json
from typing import Any

import bson
from bson import json_util
from bson.codec_options import DatetimeConversion
from bson.errors import BSONError

from whimbrel.domain.raw import ARRAY, REGEX, Key

_JSON = json_util.RELAXED_JSON_OPTIONS.with_options(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO, tz_aware=True
)


def relaxed(value: Any) -> Any:
    """A value of MongoDB as a JSON value, in relaxed Extended JSON: whole numbers and doubles are plain."""
    return json.loads(json_util.dumps(value, json_options=json_util.RELAXED_JSON_OPTIONS))


def id_json(key: Key) -> Any:
    """An `_id` as relaxed Extended JSON."""
    return relaxed(key.value)


def parse_id(value: Any) -> Key:
    """The key of an `_id` that was written in Extended JSON, and read as plain JSON.

    Raises ValueError for what is no Extended JSON, or cannot be an `_id`.
    """
    try:
        key = Key(bson.encode(json_util.loads(json.dumps({"_id": value}), json_options=_JSON)))
    except (
        BSONError,
        OverflowError,
        TypeError,
        ValueError,
        KeyError,
        AttributeError,
        ArithmeticError,
    ) as error:
        raise ValueError(f"no Extended JSON: {str(error)[:200]}") from error
    if key.kind in (ARRAY, REGEX):
        raise ValueError("an array or a regular expression cannot be the _id of a document")
    return key
