"""Collections that compare text by a collation of their own: a user's filter and update mean there what they mean to MongoDB.

What is right is what MongoDB makes of a twin of the collection by one statement.
"""

from collections.abc import Callable, Mapping
from typing import Any

import bson
import pytest
from pymongo.collection import Collection
from pymongo.database import Database

from tests.integration.in_process_system import DEFAULTS, migrate, start, system, until
from tests.integration.profiling import profiled
from whimbrel import Migration
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.start import draft_run, preview
from whimbrel.engine.operating.start_rollback import start_rollback
from whimbrel.engine.operating.start_verification import start_verification
from whimbrel.engine.rehearsing.dry_run import dry_run
from whimbrel.errors import CollectionUnsuitable
from whimbrel.mongo.store import MongoStore
from whimbrel.workers.function_caller import callers

Data = Database[dict[str, Any]]
Things = Collection[dict[str, Any]]

COLLATIONS: dict[str, dict[str, Any]] = {
    "case": {"locale": "en", "strength": 2},
    "letters": {"locale": "de", "strength": 1},
    "numbers": {"locale": "en", "numericOrdering": True},
    "shifted": {"locale": "en", "strength": 2, "alternate": "shifted"},
}
WORDS = ["de", "DE", "De", "dé", "d e", "fr", "FR", "x2", "x10", "x02", None, 5]
FILTERS: list[dict[str, Any]] = [
    {"country": "de"},
    {"country": {"$in": ["de", "FR"]}},
    {"country": {"$gt": "x2"}},
    {"country": {"$regex": "^d"}},
    {"$expr": {"$eq": ["$country", "DE"]}},
    {"$nor": [{"country": "de"}], "country": {"$type": "string"}},
]


def made(database: Data, collation: Mapping[str, Any], name: str = "things") -> Things:
    found: Things = database.create_collection(name, collation=dict(collation))
    found.insert_many(
        {"_id": at, "country": WORDS[at % len(WORDS)], "tags": ["a", "A", "b"], "status": "pending"}
        for at in range(60)
    )
    return found


def by_update(filter_: dict[str, Any], **options: Any) -> Migration:
    return Migration(
        name="m", collection="things", filter=filter_, update={"$set": {"done": True}}, **options
    )


def by_function(filter_: dict[str, Any], **options: Any) -> Migration:
    return Migration(
        name="m", collection="things", filter=filter_, transform=lambda _: {"$set": {"done": True}}, **options
    )


def done(things: Things) -> set[int]:
    return {each["_id"] for each in things.find({"done": True}, {"_id": 1})}


def by_hand(database: Data, collation: Mapping[str, Any], filter_: dict[str, Any]) -> set[int]:
    twin = made(database, collation, "twin")
    twin.update_many(filter_, {"$set": {"done": True}})
    found = done(twin)
    twin.drop()
    return found


@pytest.mark.parametrize("kind", [by_update, by_function], ids=["update", "function"])
@pytest.mark.parametrize("collation", COLLATIONS.values(), ids=list(COLLATIONS))
def test_a_filter_means_what_it_means_to_the_collection(
    store: MongoStore, database: Data, collation: dict[str, Any], kind: Callable[..., Migration]
) -> None:
    for filter_ in FILTERS:
        expected = by_hand(database, collation, filter_)
        things = made(database, collation)
        ended = migrate(store, kind(filter_))
        assert (ended.run.status, ended.run.counts.changed) == (RunStatus.COMPLETED, len(expected)), filter_
        assert done(things) == expected, filter_
        assert things.count_documents({"country": {"$exists": False}}) == 0
        things.drop()


@pytest.mark.parametrize("options", [
    {"mark": "filter"}, {"mark": "status"}, {"reads": ["country"]}, {"undo": True}, {"claim": True, "mark": "status"},
], ids=str)  # fmt: skip
def test_by_every_mark_and_guard(store: MongoStore, database: Data, options: dict[str, Any]) -> None:
    collation = COLLATIONS["case"]
    filter_ = {"country": "de", "done": {"$ne": True}}
    expected = by_hand(database, collation, filter_)
    things = made(database, collation)
    ended = migrate(store, by_function(filter_, **options))
    assert (ended.run.status, ended.run.counts.changed) == (RunStatus.COMPLETED, 15)
    assert done(things) == expected == {at for at in range(60) if str(WORDS[at % len(WORDS)]).lower() == "de"}


def test_a_status_is_compared_to_the_letter(store: MongoStore, database: Data) -> None:
    things = made(database, COLLATIONS["case"])
    for at, status in enumerate(["PENDING", "Pending", "Failed", "processinG", "Success"]):
        things.update_one({"_id": at}, {"$set": {"status": status}})
    with system(store, [it := by_update({}, mark="status")]):
        ended = until(store, start(store, it))
    assert (ended.run.status, ended.run.counts.changed) == (RunStatus.COMPLETED, 55)
    assert done(things) == set(range(5, 60))
    assert [each["status"] for each in things.find({"_id": {"$lt": 5}}, sort=[("_id", 1)])] == [
        "PENDING", "Pending", "Failed", "processinG", "Success",
    ]  # fmt: skip


UPDATES: list[Any] = [
    {"$pull": {"tags": "a"}},
    {"$max": {"country": "DF"}},
    {"$addToSet": {"tags": "B"}},
    [{"$set": {"home": {"$cond": [{"$eq": ["$country", "dE"]}, "yes", "no"]}}}],
    [{"$set": {"tags": {"$setUnion": ["$tags", ["B"]]}}}],
]


@pytest.mark.parametrize("undo", [False, True], ids=["", "undo"])
@pytest.mark.parametrize("path", ["update", "returned"])
def test_an_update_compares_as_the_collection_does(
    store: MongoStore, database: Data, path: str, *, undo: bool
) -> None:
    collation = COLLATIONS["case"]
    for update in UPDATES[1:] if undo else UPDATES:  # $pull cannot be undone
        twin, things = made(database, collation, "twin"), made(database, collation)
        twin.update_many({}, update)
        how: dict[str, Any] = (
            {"update": update} if path == "update" else {"transform": lambda _, it=update: it}
        )
        it = Migration(name="m", collection="things", undo=undo, **how)
        ended = migrate(store, it)
        assert (ended.run.status, ended.run.counts.changed) == (RunStatus.COMPLETED, 60), update
        expected = list(twin.find(sort=[("_id", 1)]))
        assert list(things.find({}, {"_whimbrel": 0}, sort=[("_id", 1)])) == expected, update
        twin.drop()
        things.drop()


def test_what_is_shown_before_a_run_is_what_it_does(store: MongoStore, database: Data) -> None:
    things = made(database, COLLATIONS["case"])
    things.create_index("country", name="place", partialFilterExpression={"country": {"$exists": True}})
    update = [{"$set": {"home": {"$cond": [{"$eq": ["$country", "dE"]}, "yes", "no"]}}}]
    it = Migration(
        name="m", collection="things", filter={"country": {"$in": ["de", "FR"]}}, update=update
    ).definition
    run = draft_run(store, it, defaults=DEFAULTS)
    assert preview(store, run).total == 25
    found = dry_run(store, it, run, callers(None), workers=1)
    assert {bson.decode(each.before)["country"] for each in found.rehearsed} == {"de", "DE", "De", "fr", "FR"}
    homes = [bson.decode(each.after or b"") for each in found.rehearsed]
    assert {each["home"] for each in homes if each["country"] in ("de", "DE", "De")} == {"yes"}
    assert {each["home"] for each in homes if each["country"] in ("fr", "FR")} == {"no"}
    assert found.selected.estimated == 25


@pytest.mark.parametrize("kind", [by_update, by_function], ids=["update", "function"])
def test_verified_undone_and_verified_again(
    store: MongoStore, database: Data, kind: Callable[..., Migration]
) -> None:
    things = made(database, COLLATIONS["case"])
    before = list(things.find(sort=[("_id", 1)]))
    it = kind({"country": "de"}, undo=True)
    with system(store, [it]):
        run = until(store, start(store, it)).run
        proved = until(
            store, start_verification(store, run.id, it.definition, who="test", defaults=DEFAULTS)
        ).run
        assert proved.status is RunStatus.COMPLETED, proved.report
        # A planted fault: one that is eligible by the collation only.
        kept = things.find_one_and_update({"_id": 1}, {"$unset": {"_whimbrel": 1}})
        assert kept is not None
        assert kept["country"] == "DE"
        faulty = until(
            store, start_verification(store, run.id, it.definition, who="test", defaults=DEFAULTS)
        ).run
        told = next(each for each in faulty.report if each.check == "nothing left")
        assert (told.verdict, told.numbers["replaced"]) == ("changed since", 1)
        things.replace_one({"_id": 1}, kept)
        things.update_one({"_id": 1}, {"$set": {"country": "dE"}})  # the application, since: in letters only
        back = until(store, start_rollback(store, run.id, who="test", defaults=DEFAULTS))
    assert (back.run.counts.changed, back.failures["conflict"]) == (15, 0)
    left = list(things.find(sort=[("_id", 1)]))
    assert left[1]["country"] == "dE"
    assert [each for each in left if each["_id"] != 1] == [each for each in before if each["_id"] != 1]


@pytest.mark.parametrize("kind", [by_update, by_function], ids=["update", "function"])
def test_its_indexes_serve(store: MongoStore, database: Data, kind: Callable[..., Migration]) -> None:
    things: Things = database.create_collection("things", collation=COLLATIONS["case"])
    things.insert_many({"_id": at, "country": "De" if at % 500 == 0 else "fr"} for at in range(20_000))
    things.create_index([("country", 1)])
    things.create_index([("kind", 1), ("_id", 1)], collation={"locale": "simple"})
    with profiled(database) as looks:
        ended = migrate(store, kind({"country": "de"}))
    assert (ended.run.status, ended.run.counts.changed) == (RunStatus.COMPLETED, 40)
    assert looks.documents() < 3000


def test_what_cannot_be_right_is_refused(store: MongoStore, database: Data) -> None:
    made(database, COLLATIONS["case"])
    with pytest.raises(CollectionUnsuitable, match="letters that differ in case only"):
        start(store, by_update({}, mark="status", undo=True))
    start(store, by_update({}, mark="status"))


def test_a_rollback_sees_what_changed_in_letters_only(store: MongoStore, database: Data) -> None:
    things = made(database, COLLATIONS["case"])
    it = Migration(
        name="m", collection="things", filter={"country": "de"}, update={"$set": {"by": "us"}}, undo=True
    )
    with system(store, [it]):
        run = until(store, start(store, it)).run
        things.update_one({"_id": 1}, {"$set": {"by": "US"}})
        back = until(store, start_rollback(store, run.id, who="test", defaults=DEFAULTS))
    assert (back.run.counts.changed, back.failures["conflict"]) == (14, 1)
    assert [each["_id"] for each in things.find({"by": {"$exists": True}})] == [1]
