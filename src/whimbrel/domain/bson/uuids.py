"""How values of `uuid.UUID` are stored: four ways, of which a database's applications have chosen one.

Without a choice (`unspecified`) a stored UUID reaches a function as the `bson.Binary` that it is, in any of the four ways, and is
stored as it came; a `uuid.UUID` that a function or a definition makes is stored in the standard way (subtype 4).
"""

import uuid
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions

from whimbrel.domain.bson.raw_bson import DOCUMENT_OPTIONS

V = TypeVar("V")
Options = CodecOptions[dict[str, Any]]

UNSPECIFIED: Final = "unspecified"
# By the names that addresses of MongoDB have for them.
UUIDS: Final[Mapping[str, int]] = {
    UNSPECIFIED: UuidRepresentation.UNSPECIFIED,
    "standard": UuidRepresentation.STANDARD,
    "pythonLegacy": UuidRepresentation.PYTHON_LEGACY,
    "javaLegacy": UuidRepresentation.JAVA_LEGACY,
    "csharpLegacy": UuidRepresentation.CSHARP_LEGACY,
}
_NAMED = "$whimbrel_uuid"  # no operator of MongoDB's
_READING: Final = {
    name: DOCUMENT_OPTIONS.with_options(uuid_representation=value) for name, value in UUIDS.items()
}
_WRITING: Final = {**_READING, UNSPECIFIED: _READING["standard"]}


def reading(uuids: str) -> Options:
    """How a document is decoded for a function."""
    return _READING[uuids]


def writing(uuids: str) -> Options:
    """How what a function returned is encoded."""
    return _WRITING[uuids]


def stored(value: V, options: Options) -> V:
    """A value without `uuid.UUID` in it: in their places is what is stored.

    Raises what encoding does: BSONError, OverflowError, RecursionError, ValueError.
    """
    try:
        bson.encode({"": value})
    except ValueError:  # there is one in it, or the value cannot be stored at all
        encoded = bson.encode({"": value}, codec_options=options)
        found: V = bson.decode(encoded, DOCUMENT_OPTIONS)[""]
        return found
    return value


def named(value: Any) -> Any:
    """A value for a way on which a `uuid.UUID` would become what one of the four makes of it: by its text."""
    if isinstance(value, uuid.UUID):
        return {_NAMED: str(value)}
    if isinstance(value, Mapping):
        return {name: named(inner) for name, inner in value.items()}
    return [named(inner) for inner in value] if isinstance(value, list | tuple) else value


def unnamed(value: Any) -> Any:
    """What `named` was given."""
    if isinstance(value, Mapping):
        if list(value) == [_NAMED]:
            return uuid.UUID(value[_NAMED])
        return {name: unnamed(inner) for name, inner in value.items()}
    return [unnamed(inner) for inner in value] if isinstance(value, list) else value
