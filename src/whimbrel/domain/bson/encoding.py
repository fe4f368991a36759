"""Documents as BSON that is kept: filters, definitions."""

from collections.abc import Mapping
from typing import Any

import bson

from whimbrel.domain.bson.raw_bson import decoded, repeats


def encoded(document: Mapping[str, Any]) -> bytes:
    """Raises what `bson.encode` raises."""
    return bson.encode(dict(document))


def lasts(document: Mapping[str, Any]) -> bool:
    """Whether BSON and back leaves a document what it is: a field name twice, or a type that drivers have given up, is lost.

    Raises what `bson.encode` raises.
    """
    once = bson.encode(document)
    try:
        return not repeats(once) and encoded(decoded(once)) == encoded(document)
    except (bson.errors.InvalidBSON, UnicodeDecodeError):
        return False
