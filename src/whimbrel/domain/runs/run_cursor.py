"""A place in the list of runs, newest first, as a cursor: it holds also when the run that stood there has been removed."""

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import bson
from bson.errors import InvalidBSON
from bson.raw_bson import RawBSONDocument

from whimbrel.domain.bson.raw_bson import DOCUMENT_OPTIONS
from whimbrel.errors import CursorInvalid

WRONG = "That is no cursor of this list. Begin without one, and take each page's nextCursor for the next."
_RAW = DOCUMENT_OPTIONS.with_options(document_class=RawBSONDocument)


@dataclass(frozen=True, slots=True)
class RunPlace:
    """By the time when a run was added, and its id."""

    created_at: datetime
    id: str

    @property
    def cursor(self) -> str:
        """As text that says nothing to people."""
        told = {"c": self.created_at, "i": self.id}
        return base64.urlsafe_b64encode(bson.encode(told)).decode()

    @classmethod
    def of(cls, cursor: str) -> "RunPlace":
        """Raises CursorInvalid."""
        try:
            found = RawBSONDocument(base64.b64decode(cursor.encode(), b"-_", validate=True), _RAW)
            told: dict[str, Any] = dict(found)
        except (ValueError, LookupError, InvalidBSON) as error:
            raise CursorInvalid(WRONG) from error
        at, name = told.get("c"), told.get("i")
        if list(told) != ["c", "i"] or not isinstance(at, datetime) or not isinstance(name, str):
            raise CursorInvalid(WRONG)
        return cls(at.astimezone(UTC), name)
