"""What is refused before a run starts, with the reason and what to do."""

import re
from typing import Any

import pytest
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database

from tests.bson_values import BAD_TEXT, YEAR_14645, documents, field, int32
from tests.conftest import SHORT
from whimbrel import DefinitionInvalid, Migration
from whimbrel.engine.operating.start import Defaults, draft_run
from whimbrel.errors import CollectionUnsuitable, FilterRefused
from whimbrel.mongo.store import MongoStore, connected

Data = Database[dict[str, Any]]


def check(store: MongoStore, query: dict[str, Any] | None = None, **options: Any) -> None:
    given = {
        "name": "m",
        "collection": "things",
        "transform": None if "update" in options else _same,
        **options,
    }
    draft_run(store, Migration(**given).definition, defaults=Defaults(), filter_=query)


def _same(it: dict[str, Any]) -> dict[str, Any]:
    return it


def unsuitable(store: MongoStore, sentence: str, **options: Any) -> None:
    with pytest.raises(CollectionUnsuitable, match=re.escape(sentence)):
        check(store, **options)


# the collection


def test_a_collection_must_be_there(store: MongoStore) -> None:
    unsuitable(store, "There is no collection 'things' in the database")


def test_an_empty_collection_will_do(store: MongoStore, database: Data) -> None:
    database.create_collection("things")
    check(store)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"viewOn": "others", "pipeline": []}, "is a view of 'others'. Migrate that collection instead"),
        ({"timeseries": {"timeField": "at"}}, "is a time-series collection"),
        ({"capped": True, "size": 4096}, "is capped"),
    ],
    ids=["view", "time series", "capped"],
)
def test_h39_collections_whose_documents_cannot_be_marked_are_refused(
    store: MongoStore, database: Data, options: dict[str, Any], sentence: str
) -> None:
    database.command({"create": "things", **options})
    unsuitable(store, sentence)


def test_a_clustered_collection_will_do(store: MongoStore, database: Data) -> None:
    database.command({"create": "things", "clusteredIndex": {"key": {"_id": 1}, "unique": True}})
    check(store)


@pytest.mark.parametrize("key", ["text", {"a": "text"}], ids=["text", "document"])
def test_h31_text_as_id_is_refused_under_a_collation(store: MongoStore, database: Data, key: Any) -> None:
    database.command({"create": "things", "collation": {"locale": "en", "strength": 2}})
    database["things"].insert_one({"n": 1})
    check(store)
    database["things"].insert_one({"_id": key})
    unsuitable(store, "has the collation 'en' and text in _id")


# the mark


@pytest.mark.parametrize("value", ["mine", None, [{"a": 1}], 5], ids=repr)
def test_h20_the_marks_field_must_not_be_the_applications(
    store: MongoStore, database: Data, value: Any
) -> None:
    database["things"].insert_many(
        [{"_whimbrel": {"other_v1": "r.1"}}, {}, {"_id": "taken", "_whimbrel": value}]
    )
    unsuitable(
        store, "uses the field '_whimbrel' itself (document 'taken'). Choose mark='status' or mark='filter'"
    )
    check(store, mark="status")
    check(store, mark="filter", filter={"a": 1})


CLOSED = {
    "$jsonSchema": {
        "properties": {"_id": {}, "a": {"bsonType": "int"}, "status": {}},
        "additionalProperties": False,
    }
}


def test_h20_a_validator_must_allow_the_mark(store: MongoStore, database: Data) -> None:
    database["things"].insert_many([{"a": "already invalid"}, {"a": 1}])
    database.command("collMod", "things", validator=CLOSED)
    unsuitable(
        store,
        "does not allow the field that marks a document as done ('_whimbrel.m_v1'). Allow it in the validator",
    )
    unsuitable(store, "('processedBy')", mark="status")
    check(store, mark="filter", filter={"a": 1})


@pytest.mark.parametrize("lenient", [{"validationAction": "warn"}, {"validationLevel": "off"}], ids=str)
def test_a_validator_that_refuses_nothing_may_say_what_it_likes(
    store: MongoStore, database: Data, lenient: dict[str, Any]
) -> None:
    database["things"].insert_one({"a": 1})
    database.command("collMod", "things", validator=CLOSED, **lenient)
    check(store)


def test_a_validator_that_allows_the_mark_will_do(store: MongoStore, database: Data) -> None:
    for key in (BAD_TEXT, YEAR_14645):  # and documents need not be such as Python can show
        database["things"].insert_one(
            RawBSONDocument(documents(key, [field("a", int32(1)), field("b", key)]))
        )
    database.command("collMod", "things", validator={"a": {"$type": "int"}})
    check(store)


# the filter and the update


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"a": {"$bogus": 1}}, "MongoDB does not understand the filter: unknown operator: $bogus"),
        ({"$bogus": 1}, "unknown top level operator: $bogus"),
        ({"a": {"$in": 5}}, "$in needs an array"),
        ({"a": {"$regex": "("}}, "Regular expression is invalid"),
        ({"$expr": {"$bogus": 1}}, "$bogus"),
    ],
    ids=str,
)
def test_a_filter_that_mongodb_does_not_understand_is_refused(
    store: MongoStore, database: Data, query: dict[str, Any], sentence: str
) -> None:
    database.create_collection("things")
    with pytest.raises(FilterRefused, match=re.escape(sentence)) as found:
        check(store, query)
    assert "full error" not in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("update", "sentence"),
    [
        ({"$bogus": {"a": 1}}, "of migration 'm': Unknown modifier: $bogus"),
        ({"$inc": {"a": "x"}}, "Cannot increment with non-numeric argument"),
        ({"$set": {"a": 1}, "$inc": {"a.b": 1}}, "would create a conflict"),
        ({"$set": {"a.$[x].b": 1}}, "No array filter found for identifier 'x'"),
        ([{"$set": {"a": {"$bogus": 1}}}], "Unrecognized expression '$bogus'"),
        ([{"$set": {"a": "$$bogus"}}], "Use of undefined variable: bogus"),
    ],
    ids=str,
)
def test_an_update_that_mongodb_does_not_understand_is_refused(
    store: MongoStore, database: Data, update: Any, sentence: str
) -> None:
    database.create_collection("things")
    with pytest.raises(DefinitionInvalid, match=re.escape(sentence)):
        check(store, update=update)


def test_an_update_may_use_the_variables_of_its_batch(store: MongoStore, database: Data) -> None:
    database.create_collection("things")
    check(store, update=[{"$set": {"by": ["$$run", "$$batch", "$$phase", "$$claimed_at", "$$NOW"]}}])


def test_nothing_is_written_by_looking(store: MongoStore, database: Data) -> None:
    database["things"].insert_one({"_id": 1, "a": 1})
    check(store, {"a": 1}, update={"$set": {"a": 2}})
    assert list(database["things"].find()) == [{"_id": 1, "a": 1}]


# following


def test_a_user_who_may_not_watch_the_collection_is_told_what_to_grant(
    store: MongoStore, database: Data
) -> None:
    database.create_collection("things")
    things = {"db": database.name, "collection": ""}
    actions = [
        "find",
        "insert",
        "update",
        "remove",
        "createIndex",
        "listIndexes",
        "listCollections",
        "collStats",
    ]
    database.command("createRole", "app", privileges=[{"resource": things, "actions": actions}], roles=[])
    database.command("createUser", "app", pwd="app", roles=[{"role": "app", "db": database.name}])  # noqa: S106
    try:
        host, port = store.client.address or ("", 0)
        uri = f"mongodb://app:app@{host}:{port}/?authSource={database.name}"
        with connected(uri, database.name, SHORT) as theirs:
            check(theirs, update={"$set": {"a": 1}})
            definition = Migration(name="m", collection="things", update={"$set": {"a": 1}}).definition
            with pytest.raises(CollectionUnsuitable, match="does not let this user watch") as caught:
                draft_run(theirs, definition, defaults=Defaults(), follow=True)
        assert f'grantRolesToUser("USER", [{{role: "read", db: "{database.name}"}}])' in str(caught.value)
    finally:
        database.command("dropUser", "app")
        database.command("dropRole", "app")
