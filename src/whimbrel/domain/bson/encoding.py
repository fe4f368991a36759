"""Stores documents, such as filters and definitions, as BSON."""

from collections.abc import Mapping
from typing import Any

import bson

from whimbrel.domain.bson.raw_bson import decoded, has_repeated_fields


def encoded(document: Mapping[str, Any]) -> bytes:
    """Returns a document as BSON. Raises what `bson.encode` raises."""
    return bson.encode(dict(document))


def survives_encoding(document: Mapping[str, Any]) -> bool:
    """Whether a document is the same after BSON and back: a repeated field name, or a type that drivers have given up, is lost.

    Raises what `bson.encode` raises.
    """
    once = bson.encode(document)
    try:
        return not has_repeated_fields(once) and encoded(decoded(once)) == encoded(document)
    except (bson.errors.InvalidBSON, UnicodeDecodeError):
        return False
