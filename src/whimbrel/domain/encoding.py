"""Documents to BSON and back, with every document left a document: the driver makes a DBRef of one that has a `$ref`.

It then writes the DBRef's fields in an order of its own, and some that were not there, and the document matches others than before.
"""

from collections.abc import Mapping
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument

from whimbrel.domain.raw import DOCUMENT_OPTIONS, repeats

_RAW = DOCUMENT_OPTIONS.with_options(document_class=RawBSONDocument)


def encoded(document: Mapping[str, Any]) -> bytes:
    """Raises what `bson.encode` raises."""
    return bson.encode(dict(document))


def decoded(document: bytes) -> dict[str, Any]:
    """The document of these bytes, of dicts, lists and values. Raises InvalidBSON, UnicodeDecodeError."""
    return {name: _plain(value) for name, value in RawBSONDocument(document, _RAW).items()}


def readable(document: bytes) -> RawBSONDocument:
    """The same to be looked at only: to be written as Extended JSON."""
    return RawBSONDocument(document, _RAW)


def lasts(document: Mapping[str, Any]) -> bool:
    """Whether BSON and back leaves a document what it is: a field name twice, or a type that drivers have given up, is lost.

    Raises what `bson.encode` raises.
    """
    once = bson.encode(document)
    try:
        return not repeats(once) and encoded(decoded(once)) == encoded(document)
    except (bson.errors.InvalidBSON, UnicodeDecodeError):
        return False


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value
