"""When a cause was met first and last, and how often over time, is kept with it: bounded, and without counting failures."""

from datetime import datetime, timedelta
from typing import Any

from pymongo.database import Database

from tests.integration.ledger.test_failure_causes import trouble
from tests.integration.ledger.test_failures_at_scale import working
from tests.waiting import until
from whimbrel.domain.failures.failure import FailureGroup
from whimbrel.domain.failures.trend import Trend
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]


def only_group(store: MongoStore, run: str) -> FailureGroup:
    (found,) = store.ledger.failures.groups(run).groups
    return found


def trend(store: MongoStore, run: str, attempts: int) -> Trend:
    """The trend, when a majority knows of so many attempts: nobody waits for that when it is written."""

    def complete() -> Trend | None:
        found = only_group(store, run).trend
        return found if found is not None and sum(found.numbers) == attempts else None

    found: Trend = until(complete)
    return found


def age(database: Data, run: str, seconds: float) -> None:
    """Moves what is kept of the run's causes into the past."""
    for row in database["whimbrel_causes"].find({"run": run}):
        back = timedelta(seconds=seconds)
        database["whimbrel_causes"].update_one(
            {"_id": row["_id"]},
            {
                "$set": {
                    "trend.from": row["trend"]["from"] - back,
                    "firstAt": row["firstAt"] - back,
                    "lastAt": row["lastAt"] - back,
                }
            },
        )


def test_a_cause_tells_when_it_was_met_and_how_often_in_a_bounded_number_of_spans(
    store: MongoStore, database: Data
) -> None:
    run, (batch, *_) = working(store, database)
    recorded, passed = 0, 0.0
    for step, gap in enumerate((0, 10, 50, 300, 4000, 90_000, 10, 400_000)):
        if recorded:
            age(database, run.id, gap)
            passed += gap
        keys = range(step * 10, step * 10 + 3)
        store.ledger.failures.record(run, batch, [trouble(key, "bad") for key in keys])
        recorded += 3
        found = trend(store, run.id, recorded)
        assert len(found.numbers) <= 60
        assert found.numbers[-1] >= 3
        assert (len(found.numbers) - 1) * found.seconds <= passed + 60
        assert passed <= len(found.numbers) * found.seconds
    assert found.numbers[0] >= 3
    group = only_group(store, run.id)
    assert isinstance(group.first_at, datetime)
    assert isinstance(group.last_at, datetime)
    assert 0 <= (group.last_at - group.first_at).total_seconds() - passed <= 60
    assert found.begins == group.first_at


def test_a_clock_that_is_set_back_adds_to_the_last_span(store: MongoStore, database: Data) -> None:
    run, (batch, *_) = working(store, database)
    store.ledger.failures.record(run, batch, [trouble(1, "bad")])
    trend(store, run.id, 1)
    age(database, run.id, 30)
    store.ledger.failures.record(run, batch, [trouble(2, "bad")])
    length = len(trend(store, run.id, 2).numbers)
    age(database, run.id, -3600)
    store.ledger.failures.record(run, batch, [trouble(3, "bad")])
    found = trend(store, run.id, 3)
    assert (len(found.numbers), found.numbers[0], found.numbers[-1]) == (length, 1, 2)


def test_a_cause_that_an_earlier_version_stored_begins_its_trend_with_what_comes(
    store: MongoStore, database: Data
) -> None:
    run, (batch, *_) = working(store, database)
    store.ledger.failures.record(run, batch, [trouble(1, "bad")])
    trend(store, run.id, 1)
    database["whimbrel_causes"].update_many({}, {"$unset": {"trend": 1, "firstAt": 1, "lastAt": 1}})
    group = only_group(store, run.id)
    assert (group.first_at, group.last_at, group.trend) == (None, None, None)
    store.ledger.failures.record(run, batch, [trouble(2, "bad"), trouble(3, "bad")])
    assert trend(store, run.id, 2).numbers == (2,)
