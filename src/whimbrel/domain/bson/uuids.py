"""How values of `uuid.UUID` are stored: in four ways, of which a database's applications have chosen one.

Without a choice (`unspecified`) a stored UUID reaches a function as the `bson.Binary` that it is, in any of the four ways, and is
stored as it came; a `uuid.UUID` that a function or a definition creates is stored in the standard way (subtype 4).
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
# By the names that MongoDB's addresses use for them.
UUIDS: Final[Mapping[str, int]] = {
    UNSPECIFIED: UuidRepresentation.UNSPECIFIED,
    "standard": UuidRepresentation.STANDARD,
    "pythonLegacy": UuidRepresentation.PYTHON_LEGACY,
    "javaLegacy": UuidRepresentation.JAVA_LEGACY,
    "csharpLegacy": UuidRepresentation.CSHARP_LEGACY,
}
_NAMED = "$whimbrel_uuid"  # not an operator of MongoDB
_READING: Final = {
    name: DOCUMENT_OPTIONS.with_options(uuid_representation=value) for name, value in UUIDS.items()
}
_WRITING: Final = {**_READING, UNSPECIFIED: _READING["standard"]}


def reading(uuids: str) -> Options:
    """Returns how a document is decoded for a function."""
    return _READING[uuids]


def writing(uuids: str) -> Options:
    """Returns how what a function returned is encoded."""
    return _WRITING[uuids]


def stored(value: V, options: Options) -> V:
    """Returns a value in which every `uuid.UUID` is replaced by what is stored for it.

    Raises what encoding raises: BSONError, OverflowError, RecursionError, ValueError.
    """
    try:
        bson.encode({"": value})
    except ValueError:  # it holds a UUID, or cannot be stored at all
        encoded = bson.encode({"": value}, codec_options=options)
        decoded: V = bson.decode(encoded, DOCUMENT_OPTIONS)[""]
        return decoded
    return value


def tag_uuids(value: Any) -> Any:
    """Returns a value in which every `uuid.UUID` is replaced by its tagged text, because encoding would turn it into one of the four ways."""
    if isinstance(value, uuid.UUID):
        return {_NAMED: str(value)}
    if isinstance(value, Mapping):
        return {name: tag_uuids(inner) for name, inner in value.items()}
    return [tag_uuids(inner) for inner in value] if isinstance(value, list | tuple) else value


def untag_uuids(value: Any) -> Any:
    """Returns the value that `tag_uuids` was given."""
    if isinstance(value, Mapping):
        if list(value) == [_NAMED]:
            return uuid.UUID(value[_NAMED])
        return {name: untag_uuids(inner) for name, inner in value.items()}
    return [untag_uuids(inner) for inner in value] if isinstance(value, list) else value
