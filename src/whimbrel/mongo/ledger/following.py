"""Stores how far runs have followed the changes of their collections."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bson.binary import Binary
from pymongo.collection import Collection

from whimbrel.domain.runs.following import Following
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.mongo.driver_errors import translated


class MongoFollowedRuns:
    """Implements `whimbrel.ports.FollowedRuns`."""

    def __init__(self, runs: Collection[Any]) -> None:
        self._runs = runs

    def begin_sweep(self, run: Run, position: bytes) -> bool:
        return self._move(
            run, {"leg": run.leg + 1, "follow.position": Binary(position), "follow.at": "$$NOW"}
        )

    def begin(self, run: Run) -> bool:
        first = {
            "follow.since": {"$ifNull": ["$follow.since", "$$NOW"]},
            "follow.counted": {"$cond": [_FIRST, run.counts.total, "$follow.counted"]},
        }
        return self._move(run, {"leg": run.leg + 1, **first})

    def skip(self, run: Run) -> bool:
        return self._move(run, {"leg": run.leg + 1, "legs": [*run.legs[: run.leg + 1], "failed"]})

    def advance(self, run: Run, position: bytes, at: datetime | None, *, ago: float = 0.0) -> bool:
        moment = at or {"$subtract": ["$$NOW", int(ago * 1000)]}
        fields = {"follow.position": Binary(position), "follow.at": moment, "follow.lostInRow": 0}
        return self._move(run, fields, news=False)

    def lose(self, run: Run, position: bytes, *, in_row: int) -> bool:
        legs = [*run.legs[: run.leg + 1], "sweep", "follow", *run.legs[run.leg + 1 :]]
        losses = {"follow.lost": {"$add": ["$follow.lost", 1]}, "follow.lostInRow": in_row}
        place = {"leg": run.leg + 1, "follow.position": Binary(position), "follow.at": "$$NOW"}
        return self._move(run, {"legs": legs, **place, **losses})

    def _move(self, run: Run, fields: Mapping[str, Any], *, news: bool = True) -> bool:
        seen = {"_id": run.id, "leg": run.leg, "status": str(RunStatus.RUNNING)}
        changes = [{"$set": {**fields, **({"updatedAt": "$$NOW"} if news else {})}}]
        with translated():
            return self._runs.update_one(seen, changes).matched_count == 1


_FIRST = {"$eq": [{"$ifNull": ["$follow.since", None]}, None]}


def following_row(follow: Following | None) -> dict[str, Any] | None:
    """Returns what a run that has not begun to follow stores."""
    if follow is None:
        return None
    return {
        "wanted": follow.wanted, "position": None, "at": None, "since": None, "counted": 0, "lost": 0, "lostInRow": 0,
    }  # fmt: skip


def following_of(row: Mapping[str, Any] | None) -> Following | None:
    if row is None:
        return None
    position = row["position"]
    return Following(
        wanted=row["wanted"], position=None if position is None else bytes(position), at=row["at"],
        since=row["since"], counted=row["counted"], lost=row["lost"], lost_in_row=row["lostInRow"],
    )  # fmt: skip
