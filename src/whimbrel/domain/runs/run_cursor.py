"""A place in the list of runs, newest first, as a cursor: it stays valid when the run at that place was removed."""

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
    """A place given by the time when a run was added, and its id."""

    created_at: datetime
    id: str

    @property
    def cursor(self) -> str:
        """The place as text that means nothing to people."""
        place = {"c": self.created_at, "i": self.id}
        return base64.urlsafe_b64encode(bson.encode(place)).decode()

    @classmethod
    def of(cls, cursor: str) -> "RunPlace":
        """Reads a cursor. Raises CursorInvalid."""
        try:
            raw = RawBSONDocument(base64.b64decode(cursor.encode(), b"-_", validate=True), _RAW)
            place: dict[str, Any] = dict(raw)
        except (ValueError, LookupError, InvalidBSON) as error:
            raise CursorInvalid(WRONG) from error
        created_at, name = place.get("c"), place.get("i")
        if list(place) != ["c", "i"] or not isinstance(created_at, datetime) or not isinstance(name, str):
            raise CursorInvalid(WRONG)
        return cls(created_at.astimezone(UTC), name)
