"""Stores the time series of runs: a row for each, of bounded size. A write changes a few numbers of it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from whimbrel.domain.runs.chunk_times import BOUNDS, ChunkTimes
from whimbrel.domain.runs.holdups import Holdup
from whimbrel.domain.runs.series import SPARKS, Point, Series, Spark, Totals
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ledger.chunk_time_rows import chunk_times_of, chunk_times_row
from whimbrel.ports.series import SeriesChange, SeriesHead, SparkLook

LIGHT = WriteConcern(1, j=False)
LOCAL = ReadConcern("local")
WRITTEN: Mapping[str, Any] = {"writes": {"$gt": 0}}


class MongoSeries:
    """Implements `whimbrel.ports.SeriesRecords`."""

    def __init__(self, series: Collection[Any]) -> None:
        # Who goes on with a series must see the last write, which no majority need have yet.
        self._series = series.with_options(write_concern=LIGHT, read_concern=LOCAL)
        self._database = series.database.with_options(codec_options=series.codec_options, read_concern=LOCAL)

    def head(self, run_id: str) -> SeriesHead:
        last = {name: {"$last": f"${name}"} for name in ("points", "holdups")}
        counts = {f"n_{name}": {"$size": f"${name}"} for name in last}
        wanted: dict[str, Any] = {**last, **counts, "writes": 1, "at": 1, "seen": 1, "width": 1, "sparks": 1}
        stored = {"from": self._series.name, "pipeline": [{"$match": {"_id": run_id, **WRITTEN}}, {"$project": wanted}], "as": "found"}  # fmt: skip
        stages: Sequence[Mapping[str, Any]] = [{"$documents": [{"now": "$$NOW"}]}, {"$lookup": stored}]
        with translated():
            (answer,) = self._database.aggregate(stages)
        now = _seconds(answer["now"])
        if not answer["found"]:
            return SeriesHead(now)
        (row,) = answer["found"]
        return SeriesHead(
            now, row["writes"], _seconds(row["at"]), _totals_of(row["seen"]), row["width"],
            row["n_points"], _point_of(row["points"]) if row.get("points") else None,
            row["n_holdups"], _holdup_of(row["holdups"]) if row.get("holdups") else None,
            _sparks_of(row),
        )  # fmt: skip

    def get(self, run_id: str) -> Series | None:
        with translated():
            row = self._series.find_one({"_id": run_id, **WRITTEN})
        if row is None:
            return None
        return Series(
            _totals_of(row["seen"]), row["width"], tuple(map(_point_of, row["points"])),
            tuple(map(_holdup_of, row["holdups"])), _sparks_of(row),
        )  # fmt: skip

    def write(self, run_id: str, change: SeriesChange, *, seen: int) -> float | None:
        fields: dict[str, Any] = {"seen": _totals_row(change.seen), "width": change.width}
        if change.point is not None:
            fields[f"points.{change.point[0]}"] = _point_row(change.point[1])
        if change.points is not None:
            fields["points"] = list(map(_point_row, change.points))
        if change.holdup is not None:
            fields[f"holdups.{change.holdup[0]}"] = _holdup_row(change.holdup[1])
        if change.holdups is not None:
            fields["holdups"] = list(map(_holdup_row, change.holdups))
        if change.spark is not None:
            fields[f"sparks.{change.spark.number % SPARKS}"] = _spark_row(change.spark)
        update: dict[str, Any] = {"$set": fields, "$inc": {"writes": 1}, "$currentDate": {"at": True}}
        with translated():
            if not seen:
                self._begin(run_id)
            row = self._series.find_one_and_update(
                {"_id": run_id, "writes": seen}, update, projection={"at": 1}, return_document=ReturnDocument.AFTER
            )  # fmt: skip
        return _seconds(row["at"]) if row else None

    def _begin(self, run_id: str) -> None:
        # An element of an array can only be set where the array exists.
        empty = {"_id": run_id, "writes": 0, "points": [], "holdups": [], "sparks": {}}
        try:
            self._series.insert_one(empty)
        except DuplicateKeyError:  # another process was first, or was killed between the two writes
            return

    def sparks(self, run_ids: Sequence[str]) -> Mapping[str, SparkLook]:
        if not run_ids:
            return {}
        wanted = {"seen": 1, "sparks": 1}
        with translated():
            rows = self._series.find({"_id": {"$in": list(run_ids)}, **WRITTEN}, wanted)
            return {row["_id"]: SparkLook(_totals_of(row["seen"]), _sparks_of(row)) for row in rows}


def _seconds(moment: datetime) -> float:
    return moment.astimezone(UTC).timestamp()


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000 + 0.5)


def _totals_row(totals: Totals) -> dict[str, Any]:
    return {
        "at": _milliseconds(totals.at), "worked": _milliseconds(totals.worked), "documents": totals.documents, "failed": totals.failed,
        "chunkTimes": chunk_times_row(totals.chunk_times),
    }  # fmt: skip


def _totals_of(row: Mapping[str, Any]) -> Totals:
    return Totals(row["at"] / 1000, row["worked"] / 1000, row["documents"], row["failed"], chunk_times_of(row["chunkTimes"]))  # fmt: skip


def _point_row(point: Point) -> list[Any]:
    """Returns a point as a list of numbers, times in milliseconds; those of its chunks only where there were some."""
    times = point.chunk_times
    histogram = [_milliseconds(times.seconds), *times.numbers] if any(times.numbers) else []
    start = _milliseconds(point.start)
    return [
        start, _milliseconds(point.end) - start, _milliseconds(point.worked), point.documents, point.failed, _milliseconds(point.shared), *histogram,
    ]  # fmt: skip


def _point_of(row: Sequence[Any]) -> Point:
    start, lasted, worked, documents, failed, shared, *histogram = row
    times = ChunkTimes(_classes(histogram[1:]), histogram[0] / 1000) if histogram else ChunkTimes()
    return Point(start / 1000, (start + lasted) / 1000, worked / 1000, documents, failed, shared / 1000, times)  # fmt: skip


def _classes(numbers: Sequence[int]) -> tuple[int, ...]:
    return (*numbers, *(0,) * (len(BOUNDS) - len(numbers)))[: len(BOUNDS)]


def _holdup_row(holdup: Holdup) -> list[Any]:
    return [
        _milliseconds(holdup.start), _milliseconds(holdup.end), holdup.state, holdup.signal, holdup.said, holdup.share, holdup.times,
        _milliseconds(holdup.seconds),
    ]  # fmt: skip


def _holdup_of(row: Sequence[Any]) -> Holdup:
    start, end, state, signal, said, share, times, seconds = row
    return Holdup(start / 1000, end / 1000, state, signal, said, share, times, seconds / 1000)


def _spark_row(spark: Spark) -> list[Any]:
    return [spark.number, spark.documents, _milliseconds(spark.worked)]


def _sparks_of(row: Mapping[str, Any]) -> tuple[Spark, ...]:
    sparks = [Spark(number, documents, worked / 1000) for number, documents, worked in dict(row["sparks"]).values()]  # fmt: skip
    return tuple(sorted(sparks, key=lambda spark: spark.number))
