"""Stores the freezes, all in one row: they are read once a second by every process, with the server's time."""

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from whimbrel.domain.runs.freezes import Freeze
from whimbrel.mongo.driver_errors import translated
from whimbrel.ports.freezes import FreezeLook

ROW = "freezes"


class MongoFreezes:
    """Implements `whimbrel.ports.Freezes`."""

    def __init__(self, collection: Collection[Any]) -> None:
        self._rows = collection
        self._majority = collection.database.with_options(
            codec_options=collection.codec_options, read_concern=collection.read_concern
        )

    def look(self) -> FreezeLook:
        # There is a time also where there is no row.
        stored = {"from": self._rows.name, "pipeline": [{"$match": {"_id": ROW}}], "as": "found"}
        stages: Sequence[Mapping[str, Any]] = [{"$documents": [{"now": "$$NOW"}]}, {"$lookup": stored}]
        with translated():
            (answer,) = self._majority.aggregate(stages)
        rows = answer["found"]
        if not rows:
            return FreezeLook(answer["now"])
        return FreezeLook(answer["now"], tuple(map(_freeze_of, rows[0]["freezes"])), rows[0]["revision"])

    def replace(self, freezes: Sequence[Freeze], *, seen: int) -> bool:
        changed = {"$set": {"freezes": [_freeze_row(freeze) for freeze in freezes], "revision": seen + 1}}
        with translated():
            try:
                result = self._rows.update_one({"_id": ROW, "revision": seen}, changed, upsert=seen == 0)
            except DuplicateKeyError:  # another process was first
                return False
        return bool(result.matched_count or result.upserted_id)


def _freeze_row(freeze: Freeze) -> dict[str, Any]:
    return {
        "id": freeze.id, "from": freeze.begins, "until": freeze.ends, "note": freeze.note, "by": freeze.by,
        "liftedBy": freeze.lifted_by,
    }  # fmt: skip


def _freeze_of(row: Mapping[str, Any]) -> Freeze:
    return Freeze(
        id=row["id"], begins=row["from"], ends=row["until"], note=row["note"], by=row["by"],
        lifted_by=row["liftedBy"],
    )  # fmt: skip
