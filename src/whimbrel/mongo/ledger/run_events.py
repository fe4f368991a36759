"""Writes events into a run's row, by the statement that makes them true: what webhooks tell can neither be lost nor made up by a crash."""

from typing import Any

from whimbrel.domain.webhooks.events import KEPT, NO_PROGRESS, REASON, state_event
from whimbrel.masking import masked

NUMBER, UNSENT = "eventNumber", "unsent"
WAITING_TO_BE_SENT = {
    f"{UNSENT}.n": {"$gte": 1}
}  # in runs that have events of which nobody has made deliveries


def first_event(status: str, *, who: str) -> dict[str, Any]:
    """Returns the fields, as expressions, of a row that is inserted: the run was added in this state."""
    return {NUMBER: 1, UNSENT: [{"n": 1, **_facts(state_event(status), None, status, who, "")}]}


def next_event(target: str, *, who: str, why: str) -> dict[str, Any]:
    """Returns the fields, as expressions, that a run's row gets with a new state."""
    return _appended(_facts(state_event(target), "$status", target, who, why))


def standstill_event(*, who: str, why: str) -> dict[str, Any]:
    """Returns the fields, as expressions, that tell that a run makes no progress."""
    return _appended(_facts(NO_PROGRESS, "$status", "$status", who, why))


def without_events(number: int) -> list[dict[str, Any]]:
    """Returns the stages that remove events up to this number; the field goes with the last one."""
    later = {"$filter": {"input": {"$ifNull": [f"${UNSENT}", []]}, "cond": {"$gt": ["$$this.n", number]}}}
    return [
        {"$set": {UNSENT: later}},
        {"$set": {UNSENT: {"$cond": [{"$eq": [f"${UNSENT}", []]}, "$$REMOVE", f"${UNSENT}"]}}},
    ]


def _facts(type_: str, before: str | None, after: str, who: str, why: str) -> dict[str, Any]:
    return {
        "type": {"$literal": type_}, "at": "$$NOW", "from": before, "to": after, "who": {"$literal": who}, "why": {"$literal": masked(why)[:REASON]},
    }  # fmt: skip


def _appended(facts: dict[str, Any]) -> dict[str, Any]:
    number = {"$add": [{"$ifNull": [f"${NUMBER}", 0]}, 1]}
    events = {"$concatArrays": [{"$ifNull": [f"${UNSENT}", []]}, [{"n": number, **facts}]]}
    return {NUMBER: number, UNSENT: {"$slice": [events, -KEPT]}}
