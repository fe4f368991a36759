"""Stores schedules. One conditional update of its row decides a tick; a run that it starts is kept there until it is added."""

import contextlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from whimbrel.domain.bson.raw_bson import DOCUMENT_OPTIONS
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.schedules import Plan, Schedule, Tick
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ledger.leases import MongoLeases
from whimbrel.mongo.ledger.run_events import first_event
from whimbrel.mongo.ledger.run_rows import filter_of, run_row
from whimbrel.ports.schedules import Decision, ScheduleLook

SWITCH = "$switch"  # the id of a row that is not a schedule: names cannot begin like this
KEPT = 50  # ticks of a schedule's history
ROLE = "scheduler"

Row = Mapping[str, Any]


class MongoSchedules:
    """Implements `whimbrel.ports.Schedules`."""

    def __init__(
        self, schedules: Collection[Any], runs: Collection[Any], roles: Collection[Any], leases: MongoLeases
    ) -> None:
        self._schedules, self._runs, self._roles, self._leases = schedules, runs, roles, leases
        self._database = schedules.database

    def now(self) -> datetime:
        with translated():
            server_time: datetime = self._database.command("hello", codec_options=DOCUMENT_OPTIONS)[
                "localTime"
            ]
        return server_time

    def is_prepared(self) -> bool:
        with translated():
            return self._schedules.find_one({"_id": SWITCH, "made": True}, {"_id": 1}) is not None

    def prepare(self, name: str, plan: Plan, next_at: datetime | None) -> None:
        first = {"_id": name, "revision": {"$exists": False}}
        with translated():
            with contextlib.suppress(DuplicateKeyError):  # another process or a person was first
                self._schedules.update_one(first, [_plan_stage(plan, next_at, "settings")], upsert=True)
            switched_on: list[dict[str, Any]] = [{"$set": {"made": True, "on": {"$ifNull": ["$on", True]}}}]
            self._schedules.update_one({"_id": SWITCH}, switched_on, upsert=True)

    def snapshot(self) -> ScheduleLook:
        due = {
            "enabled": True, "nextAt": {"$type": "date"}, "$expr": {"$lte": ["$nextAt", "$$NOW"]},
        }  # fmt: skip
        query = {"$or": [{"_id": SWITCH}, {"pending": {"$type": "object"}}, due]}
        stages: list[dict[str, Any]] = [
            {"$match": query},
            {"$project": {"history": 0, "pending.row": 0}},
            {"$set": {"now": "$$NOW"}},
            {"$sort": {"nextAt": 1, "_id": 1}},
        ]
        with translated():
            rows = list(self._schedules.aggregate(stages))
        on = all(row.get("on", True) for row in rows if row["_id"] == SWITCH)
        schedules = [_schedule_of(row) for row in rows if row["_id"] != SWITCH]
        return ScheduleLook(rows[0]["now"] if rows else self.now(), on, schedules)

    def get(self, name: str) -> Schedule | None:
        with translated():
            row = self._schedules.find_one({"_id": name, "revision": {"$exists": True}}, {"pending.row": 0})
        return _schedule_of(row) if row else None

    def list(self) -> list[Schedule]:
        with translated():
            rows = list(self._schedules.find({"_id": {"$ne": SWITCH}}, {"pending.row": 0}).sort("_id", 1))
        return [_schedule_of(row) for row in rows]

    def put(self, name: str, plan: Plan, next_at: datetime | None, *, who: str) -> Schedule:
        with translated():
            row: Any = self._schedules.find_one_and_update(
                {"_id": name},
                [_plan_stage(plan, next_at, who)],
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        self._leases.audit(f"schedule {name} set", run="", who=who)
        return _schedule_of(row)

    def replace_untouched(self, name: str, plan: Plan, next_at: datetime | None, *, who: str) -> bool:
        as_made = {"_id": name, "enabled": False, "madeBy": who, "changedBy": who}
        with translated():
            taken_up = (
                self._schedules.update_one(as_made, [_plan_stage(plan, next_at, who)]).matched_count == 1
            )
        if taken_up:
            self._leases.audit(f"schedule {name} enabled", run="", who=who)
        return taken_up

    def remove(self, name: str, *, who: str) -> bool:
        with translated():
            removed = (
                self._schedules.delete_one({"_id": name, "revision": {"$exists": True}}).deleted_count == 1
            )
        if removed:
            self._leases.audit(f"schedule {name} removed", run="", who=who)
        return removed

    def is_on(self) -> bool:
        with translated():
            row = self._schedules.find_one({"_id": SWITCH}, {"on": 1})
        return row is None or bool(row.get("on", True))

    def stopped(self) -> tuple[str, datetime | None] | None:
        with translated():
            row = self._schedules.find_one({"_id": SWITCH, "on": False}, {"changedBy": 1, "changedAt": 1})
        return None if row is None else (str(row.get("changedBy", "somebody")), row.get("changedAt"))

    def switch(
        self, *, on: bool, who: str, next_ticks: Sequence[tuple[Schedule, datetime | None]] = ()
    ) -> bool:
        switched: list[dict[str, Any]] = [
            {"$set": {"on": on, "changedBy": {"$literal": who}, "changedAt": "$$NOW"}}
        ]
        with translated():
            for schedule, next_at in next_ticks:
                self._schedules.update_one(
                    {"_id": schedule.name, "enabled": True, "revision": schedule.revision},
                    {"$set": {"nextAt": next_at}},
                )
            try:
                result = self._schedules.update_one({"_id": SWITCH, "on": {"$ne": on}}, switched, upsert=True)
            except DuplicateKeyError:  # it exists, and is switched so already
                return False
            if not on:  # invalidate decisions under way, which are based on what was read before
                self._schedules.update_many({"enabled": True}, {"$inc": {"revision": 1}})
        self._leases.audit(f"scheduler {'started' if on else 'stopped'}", run="", who=who)
        return bool(result.matched_count or result.upserted_id)

    def leader(self) -> str | None:
        with translated():
            row = self._roles.find_one({"_id": ROLE, "$expr": {"$gt": ["$until", "$$NOW"]}}, {"holder": 1})
        return str(row["holder"]) if row else None

    def decide(self, schedule: Schedule, decision: Decision) -> bool:
        as_seen = {
            "_id": schedule.name, "enabled": True, "revision": schedule.revision, "nextAt": schedule.next_at,
            "pending": None,
        }  # fmt: skip
        tick = _decided(decision.tick)
        sets: dict[str, Any] = {
            "nextAt": decision.following, "lastAt": decision.tick.due_at, "trouble": "", "lookedAt": "$$NOW"
        }  # fmt: skip
        if decision.run is None:
            sets["history"] = _history_with(tick)
        else:
            sets["pending"] = _pending(decision.run, tick)
        with translated():
            return self._schedules.update_one(as_seen, [{"$set": sets}]).modified_count == 1

    def begin_now(self, schedule: Schedule, tick: Tick, run: Run, *, who: str) -> bool:
        as_seen = {
            "_id": schedule.name, "revision": schedule.revision, "lastRun": schedule.last_run, "pending": None,
        }  # fmt: skip
        with translated():
            begun = self._schedules.update_one(
                as_seen, [{"$set": {"pending": _pending(run, _decided(tick))}}]
            )
        if begun.modified_count:
            self._leases.audit(f"schedule {schedule.name} run by hand", run=run.id, who=who)
        return begun.modified_count == 1

    def add_run(self, schedule: Schedule) -> bool:
        with translated():
            stored = self._schedules.find_one(
                {"_id": schedule.name, "pending.run": schedule.pending}, {"pending.row": 1}
            )
            if stored is None:
                return False
            new_row = {
                "$mergeObjects": [
                    {"$literal": stored["pending"]["row"]},
                    {"createdAt": "$$NOW", "updatedAt": "$$NOW"},
                    first_event("queued", who=f"schedule:{schedule.name}"),
                ]
            }
            # A run that exists may be at work by now, so it stays as it is.
            exists = {"$ne": [{"$type": "$status"}, "missing"]}
            try:
                added = self._runs.update_one(
                    {"_id": schedule.pending},
                    [{"$replaceWith": {"$cond": [exists, "$$ROOT", new_row]}}],
                    upsert=True,
                )
            except DuplicateKeyError:  # another process was first
                return True
        if added.upserted_id is not None:
            self._leases.audit("run added", run=str(schedule.pending), who=f"schedule:{schedule.name}")
        return True

    def close(self, schedule: Schedule) -> None:
        sets = {"history": _history_with("$pending.tick"), "lastRun": "$pending.run", "pending": None}
        with translated():
            self._schedules.update_one(
                {"_id": schedule.name, "pending.run": schedule.pending}, [{"$set": sets}]
            )

    def record_trouble(self, name: str, trouble: str) -> None:
        with translated():
            self._schedules.update_one(
                {"_id": name, "trouble": {"$ne": trouble}}, {"$set": {"trouble": trouble}}
            )


def _decided(tick: Tick) -> dict[str, Any]:
    return {"$mergeObjects": [{"$literal": _tick_row(tick)}, {"decidedAt": "$$NOW"}]}


def _pending(run: Run, tick: Mapping[str, Any]) -> dict[str, Any]:
    return {"run": run.id, "tick": tick, "row": {"$literal": run_row(run)}}


def _history_with(tick: Any) -> dict[str, Any]:
    return {"$slice": [{"$concatArrays": [{"$ifNull": ["$history", []]}, [tick]]}, -KEPT]}


def _plan_stage(plan: Plan, next_at: datetime | None, who: str) -> dict[str, Any]:
    stated = {
        "migration": plan.migration, "cron": plan.cron, "zone": plan.zone, "enabled": plan.enabled,
        "batchSize": plan.batch_size, "filters": plan.filters, "priority": plan.priority,
        "windows": list(plan.windows), "nice": plan.nice,
    }  # fmt: skip
    # Else a tick that comes due at this moment would be lost when other settings change.
    unchanged: list[Any] = [
        {"$eq": [f"${name}", {"$literal": stated[name]}]} for name in ("cron", "zone", "enabled")
    ]
    return {
        "$set": {
            **{name: {"$literal": value} for name, value in stated.items()},
            "nextAt": {"$cond": [{"$and": unchanged}, "$nextAt", next_at]},
            "revision": {"$add": [{"$ifNull": ["$revision", 0]}, 1]}, "trouble": "",
            "pending": {"$ifNull": ["$pending", None]}, "lastAt": {"$ifNull": ["$lastAt", None]},
            "lastRun": {"$ifNull": ["$lastRun", None]}, "history": {"$ifNull": ["$history", []]},
            "madeBy": {"$ifNull": ["$madeBy", {"$literal": who}]}, "madeAt": {"$ifNull": ["$madeAt", "$$NOW"]},
            "changedBy": {"$literal": who}, "changedAt": "$$NOW",
        }
    }  # fmt: skip


def _tick_row(tick: Tick) -> dict[str, Any]:
    return {
        "at": tick.due_at, "first": tick.first, "outcome": tick.outcome, "run": tick.run, "reason": tick.reason
    }  # fmt: skip


def _tick_of(row: Row) -> Tick:
    return Tick(
        due_at=row["at"], first=row["first"], outcome=row["outcome"], run=row["run"], reason=row["reason"],
        decided_at=row["decidedAt"],
    )  # fmt: skip


def _schedule_of(row: Row) -> Schedule:
    plan = Plan(
        migration=row["migration"], cron=row["cron"], zone=row["zone"], enabled=row["enabled"],
        batch_size=row["batchSize"], filters=filter_of(row["filters"]) if row["filters"] else None, priority=row["priority"],
        windows=tuple(row.get("windows", ())), nice=row.get("nice", 0),
    )  # fmt: skip
    pending = row.get("pending")
    return Schedule(
        name=row["_id"], plan=plan, revision=row["revision"], next_at=row["nextAt"], last_at=row["lastAt"],
        last_run=row["lastRun"], pending=pending["run"] if pending else None, trouble=row["trouble"],
        made_by=row["madeBy"], made_at=row["madeAt"], changed_by=row["changedBy"], changed_at=row["changedAt"],
        history=tuple(_tick_of(tick) for tick in row.get("history", ())),
    )  # fmt: skip
