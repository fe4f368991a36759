"""Reads what changes in a user's collection, by a change stream (see `whimbrel.ports.changes`)."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import ReadPreference
from pymongo.change_stream import ChangeStream
from pymongo.collection import Collection

from whimbrel.domain.bson.raw_bson import DOCUMENT_OPTIONS, Key
from whimbrel.domain.migrations.marks import MARK_ROOT, Marker, Status
from whimbrel.domain.runs.run import Run
from whimbrel.errors import ChangesLost, Refused
from whimbrel.mongo.driver_errors import translated
from whimbrel.ports.changes import Change

WAIT = 500  # milliseconds that the server waits for a change before it answers that there was none
WRITES = ["insert", "update", "replace"]
COMMENT = "whimbrel follows"  # tells our change streams from those of others
GONE = "the collection was dropped or renamed meanwhile"


class MongoChanges:
    """Implements `whimbrel.ports.Changes`. `position`: from where; None: from now on. Raises what `next` raises."""

    def __init__(self, collection: Collection[Any], run: Run, position: bytes | None) -> None:
        raw = DOCUMENT_OPTIONS.with_options(document_class=RawBSONDocument)
        self._began_at = position
        after = None if position is None else bson.decode(position)
        try:
            with translated():
                self._stream: ChangeStream[Any] = collection.with_options(
                    codec_options=raw, read_preference=ReadPreference.PRIMARY
                ).watch(stages(run), resume_after=after, max_await_time_ms=WAIT, comment=COMMENT)
        except Refused as error:
            raise self._lost(error) from error

    def next(self) -> Change | None:
        try:
            with translated():
                event = self._stream.try_next()
        except Refused as error:
            raise self._lost(error) from error
        if event is not None:
            return Change(Key(bytes(event["documentKey"].raw)), bson.encode(event["_id"]), _time(event))
        if not self._stream.alive:
            raise ChangesLost(f"MongoDB has ended the change stream: {GONE}.")
        return None

    @property
    def position(self) -> bytes:
        token = self._stream.resume_token
        if token is None:
            raise ChangesLost("MongoDB does not tell from which position it reads changes.")
        return bson.encode(token)

    def close(self) -> None:
        with translated():
            self._stream.close()

    def _lost(self, error: Refused) -> Exception:
        """Returns the error where MongoDB cannot go on from a position; one that it cannot even begin with stays as it is."""
        if self._began_at is None and not hasattr(self, "_stream"):
            return error
        return ChangesLost(f"MongoDB cannot tell any more what has changed since: {error}")


def stages(run: Run) -> list[Mapping[str, Any]]:
    """Returns the stages behind `$changeStream`: only writes of documents, without those that bear the run's own mark, and only the keys."""
    return [
        {"$match": {"operationType": {"$in": WRITES}, **_not_own(run)}},
        {"$project": {"documentKey": 1, "clusterTime": 1, "wallTime": 1}},
    ]


def _not_own(run: Run) -> dict[str, Any]:
    """Leaves out changes that came with the run's mark. Under mark `filter` none does: those documents are not eligible any more."""
    mark, changed = run.marking, "updateDescription.updatedFields"
    if isinstance(mark, Marker):
        path = f"{MARK_ROOT}.{mark.field}"
        # An update names the field in one of two ways: as a part of the new `_whimbrel`, or by a path that is one name.
        by_path = {"$getField": {"field": {"$literal": path}, "input": f"${changed}"}}
        return {
            f"fullDocument.{path}": {"$exists": False},
            f"{changed}.{path}": {"$exists": False},
            "$expr": {"$eq": [{"$type": by_path}, "missing"]},
        }
    if isinstance(mark, Status):
        own = {"$not": re.compile(f"^{re.escape(run.id)}\\.")}
        return {f"fullDocument.{mark.path}": own, f"{changed}.{mark.path}": own}
    return {}


def _time(event: Mapping[str, Any]) -> datetime:
    """Returns when a change was written: by the clock of the primary, or in whole seconds."""
    wall = event.get("wallTime")
    if isinstance(wall, datetime):
        return wall
    moment: datetime = event["clusterTime"].as_datetime()
    return moment
