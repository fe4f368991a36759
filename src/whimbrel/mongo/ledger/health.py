"""Stores the verdict on the database's health, its history in two rings of rows, and what people have set."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any

import pymongo
from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from whimbrel.domain.health.members import Member
from whimbrel.domain.health.signal_states import SignalState
from whimbrel.domain.health.signals import SIGNALS, Level, Reads, Signal, Thresholds
from whimbrel.domain.health.verdict import LeftOut, Reason, Verdict
from whimbrel.errors import Transient
from whimbrel.mongo.driver_errors import sentence, translated
from whimbrel.mongo.ledger.leases import MongoLeases
from whimbrel.ports.health import HealthSample, HealthSettings

VERDICT, SETTINGS = "verdict", "settings"
THROTTLED = "throttled"
SECONDS, MINUTES = 900, 1440  # rows of each ring
WITHIN = 2.0  # seconds in which the verdict must be stored; a write that takes longer counts as so long


class MongoHealthRecords:
    """Implements `whimbrel.ports.health.HealthRecords`."""

    def __init__(self, collection: Collection[Any], leases: MongoLeases) -> None:
        self._rows, self._leases = collection, leases

    def verdict(self) -> Verdict:
        with translated():
            found = list(
                self._rows.aggregate([
                    {"$match": {"_id": VERDICT}},
                    {"$set": {"age": {"$subtract": ["$$NOW", "$at"]}}},
                ])
            )  # fmt: skip
        return _verdict_of(found[0]) if found else Verdict()

    def settings(self) -> HealthSettings:
        with translated():
            row = self._rows.find_one({"_id": SETTINGS})
        if row is None:
            return HealthSettings()
        thresholds = {
            name: Thresholds(each.get("slow"), each.get("stop"))
            for name, each in dict(row.get("thresholds", {})).items()
        }
        return HealthSettings(thresholds, dict(row.get("ignored", {})))

    def keep(
        self, verdict: Verdict, minute: Mapping[str, Any] | None, throttled: Mapping[str, float] | None = None
    ) -> None:
        row = {
            "share": verdict.share, "level": str(verdict.level), "since": verdict.since, "by": verdict.by,
            "reasons": [{**asdict(reason), "level": str(reason.level)} for reason in verdict.reasons],
            "signals": {name: {**asdict(state), "level": str(state.level)} for name, state in verdict.signals.items()},
            "waitsSince": verdict.waits_since, "shareBefore": verdict.share_before, "advice": verdict.advice, "leftOut": [asdict(member) for member in verdict.left_out],
            "checks": [{**asdict(signal), "needs": str(signal.needs)} for signal in verdict.checks],
            "members": [asdict(member) for member in verdict.members],
        }  # fmt: skip
        values = {name: state.value for name, state in verdict.signals.items() if state.value is not None}
        second = {"share": verdict.share, "level": str(verdict.level), "values": values}
        writes = [_stored(VERDICT, row), _in_ring("s", SECONDS, 1000, second)]
        if minute is not None:
            writes.append(_in_ring("m", MINUTES, 60_000, minute))
        if throttled:
            writes.append(UpdateOne({"_id": THROTTLED}, {"$inc": dict(throttled)}, upsert=True))
        with translated(), pymongo.timeout(WITHIN):
            try:
                self._rows.bulk_write(writes)
            except BulkWriteError as error:  # its own code does not tell that a majority is missing
                raise Transient(
                    f"The verdict on the database's health was not stored: {sentence(error)}"
                ) from error

    def throttled(self) -> Mapping[str, float]:
        with translated():
            row = self._rows.find_one({"_id": THROTTLED}, {"_id": 0})
        return {name: float(seconds) for name, seconds in (row or {}).items()}

    def history(self, *, minutes: bool) -> Sequence[HealthSample]:
        ring, size = ("m", MINUTES) if minutes else ("s", SECONDS)
        span = size * (60_000 if minutes else 1000)
        with translated():
            rows = self._rows.find(
                {"ring": ring, "$expr": {"$gt": ["$at", {"$subtract": ["$$NOW", span]}]}}
            ).sort("at", 1)
            return [HealthSample(row["at"], row["share"], row["level"], dict(row["values"])) for row in rows]  # fmt: skip

    def set_thresholds(self, signal: str, thresholds: Thresholds, *, who: str) -> None:
        asked = {name: value for name, value in asdict(thresholds).items() if value is not None}
        self._set(f"thresholds.{signal}", asked or None)
        self._leases.audit(f"thresholds of {signal}: {asked or 'as in the table'}", run="", who=who)

    def ignore(self, signal: str, until: datetime | None, *, who: str, why: str) -> None:
        self._set(f"ignored.{signal}", until)
        what = f"ignored until {until.isoformat(timespec='seconds')}" if until else "no longer ignored"
        self._leases.audit(f"signal {signal} {what}", run="", who=who, why=why)

    def _set(self, place: str, value: Any) -> None:
        """Stores what a person has set; None: nothing any more."""
        change = {"$unset": {place: ""}} if value is None else {"$set": {place: value}}
        with translated():
            self._rows.update_one({"_id": SETTINGS}, change, upsert=True)


def _stored(row_id: str, fields: Mapping[str, Any]) -> UpdateOne:
    stated = {"_id": row_id, **{name: {"$literal": value} for name, value in fields.items()}, "at": "$$NOW"}
    return UpdateOne({"_id": row_id}, [{"$replaceWith": stated}], upsert=True)


def _in_ring(ring: str, size: int, width: int, fields: Mapping[str, Any]) -> UpdateOne:
    """Overwrites the oldest row of a ring. Its place goes by this process's clock; only its time counts, which is the server's."""
    number = int(datetime.now(UTC).timestamp() * 1000) // width % size
    return _stored(f"{ring}:{number}", {**fields, "ring": ring})


def _verdict_of(row: Mapping[str, Any]) -> Verdict:
    reasons = tuple(
        Reason(each["signal"], Level(each["level"]), each["since"], each["sentence"])
        for each in row["reasons"]
    )
    checks = tuple(
        Signal(**{**_known(Signal, each), "needs": Reads(each["needs"])}) for each in row.get("checks", ())
    )
    names = {*SIGNALS, *(check.name for check in checks)}
    signals = {
        name: SignalState(**{**_known(SignalState, state), "level": Level(state["level"])})
        for name, state in dict(row["signals"]).items()
        if name in names
    }
    return Verdict(
        share=row["share"], level=Level(row["level"]), since=row["since"], reasons=reasons, signals=signals, at=row["at"],
        age=max(0.0, row["age"] / 1000), by=row["by"], waits_since=row.get("waitsSince"), share_before=row.get("shareBefore", 1.0), advice=row.get("advice", ""),
        left_out=tuple(LeftOut(each["host"], each["why"]) for each in row.get("leftOut", ())), checks=checks,
        members=tuple(Member(**_known(Member, each)) for each in row.get("members", ())),
    )  # fmt: skip


def _known(kind: type[Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what this version knows of a row that a newer one may have stored."""
    names = {each.name for each in fields(kind)}
    return {name: value for name, value in row.items() if name in names}
