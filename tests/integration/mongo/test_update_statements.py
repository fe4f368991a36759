"""Many different changes in few statements: nobody gets another's, and everybody the right one, once."""

from typing import Any

import bson
import pytest
from pymongo.database import Database
from pymongo.monitoring import CommandListener, CommandStartedEvent

from tests.bson_values import NULL, Value, array, documents, embedded, field, int32, int64, string
from tests.integration.guarded_writes import MARK, TOKEN, Hand, unmarked
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.migrations.marks import Filter, Status
from whimbrel.domain.migrations.smallest_change import smallest_change
from whimbrel.domain.runs.batches import Range
from whimbrel.domain.runs.run import Counts
from whimbrel.errors import Refused
from whimbrel.ports import GuardedChange

Data = Database[dict[str, Any]]


def seed(hand: Hand, count: int, **fields: Any) -> list[bytes]:
    hand.collection.insert_many([{"_id": key, "n": key, **fields} for key in range(count)])
    return [bytes(each.raw) for each in hand.raw.find().sort("_id")]


@pytest.mark.parametrize("reads", [None, ["n"]], ids=["whole", "reads"])
def test_h32_nobody_gets_the_value_of_another(database: Data, reads: list[str] | None) -> None:
    hand = Hand(database, reads=reads)
    read = [each for each in seed(hand, 300) if Key.of_document(each).value % 3]
    hand.collection.delete_many({"_id": {"$mod": [7, 0]}})
    hand.collection.insert_many(
        [{"_id": key + 0.5, "n": key} for key in range(300)]
    )  # between those that were read
    written = hand.write(
        [
            (each, smallest_change(hand.migration, each, {"$set": {"own": Key.of_document(each).value}}))
            for each in read
        ]
    )
    rows = list(hand.collection.find())
    assert written.applied == len([1 for key in range(300) if key % 3 and key % 7])
    assert all(each.get("own", each["_id"]) == each["_id"] for each in rows)
    assert {each["_id"] for each in rows if "own" in each} == {
        key for key in range(300) if key % 3 and key % 7
    }


def test_changes_of_every_shape_go_in_one_call(database: Data) -> None:
    hand = Hand(database)
    read = seed(hand, 600, kind="k", nested={"x": 1}, items=[{"x": 1}])
    shapes: list[Any] = [
        {"$set": {"a": 1}},
        {"$set": {"b": 2, "nested.y": 3}},
        {"$unset": {"kind": ""}},
        {"$set": {"a": 1}, "$unset": {"kind": "", "nested.x": ""}},
        {"$inc": {"n": 1000}},
        {"$set": {"items.0.x": 5}},
    ]
    written = hand.write(
        [(each, smallest_change(hand.migration, each, shapes[key % 6])) for key, each in enumerate(read)]
    )
    assert (written.applied, written.doubtful, written.refused, written.clean) == (600, (), (), True)
    base = {"kind": "k", "nested": {"x": 1}, "items": [{"x": 1}]}
    for row in hand.collection.find({}, {"_whimbrel": 0}):
        key = row.pop("_id")
        wanted = {"n": key, **base}
        match key % 6:
            case 0:
                wanted |= {"a": 1}
            case 1:
                wanted |= {"b": 2, "nested": {"x": 1, "y": 3}}
            case 2:
                del wanted["kind"]
            case 3:
                wanted |= {"a": 1, "nested": {}}
                del wanted["kind"]
            case 4:
                wanted |= {"n": key + 1000}
            case 5:
                wanted |= {"items": [{"x": 5}]}
        assert row == wanted
    assert set(hand.marks().values()) == {TOKEN}
    assert hand.documents.evidence(Range(None, Key.of(599)), MARK, TOKEN) == Counts(changed=600)


# H33: what pipelines would do otherwise than update documents

P = {"x": 1, "y": [1, {"z": 2}]}
CASES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None]] = [
    ({"p": P}, {"$set": {"p": {"x": 9}}}, {"p": {"x": 9}}),
    ({"p": P}, {"$set": {"p": {}}}, {"p": {}}),
    ({"p": P}, {"$set": {"p": "$x"}}, {"p": "$x"}),
    ({"p": P}, {"$set": {"p": {"$literal": 1}}}, {"p": {"$literal": 1}}),
    ({"p": P}, {"$set": {"p": ["$p", "$$ROOT"]}}, {"p": ["$p", "$$ROOT"]}),
    ({"p": P}, {"$unset": {"p.y.z": ""}}, {"p": P}),
    ({"p": [{"x": 1}, {"x": 2}]}, {"$unset": {"p.x": ""}}, {"p": [{"x": 1}, {"x": 2}]}),
    ({"p": P}, {"$set": {"p.y.1.z": 5}}, {"p": {"x": 1, "y": [1, {"z": 5}]}}),
    ({"p": P}, {"$set": {"p.y.4": 5}}, {"p": {"x": 1, "y": [1, {"z": 2}, None, None, 5]}}),
    ({"p": P}, {"$unset": {"p.y.0": ""}}, {"p": {"x": 1, "y": [None, {"z": 2}]}}),
    ({}, {"$set": {"q.r.s": 1}}, {"q": {"r": {"s": 1}}}),
    ({}, {"$set": {"q.0": 1}}, {"q": {"0": 1}}),
    ({"p": P}, {"$set": {"p.x.y": 1}}, None),
    ({"p": None}, {"$set": {"p.x": 1}}, None),
    ({"p": "text"}, {"$set": {"p.x": 1}}, None),
    ({"p": [1]}, {"$set": {"p.x": 1}}, None),
    ({"p": P}, {"$set": {"p": 1, "p.x": 1}}, None),
    ({"p": P}, {"$inc": {"p.y": 1}}, None),
    ({"p": P}, {"$unknown": {"p": 1}}, None),
    ({"p": P}, {"$set": {"$a": 1}}, None),
    ({"p": P}, {"$set": {"a..b": 1}}, None),
    ({"n": 1}, {"$mul": {"n": 3}, "$min": {"m": 2}, "$set": {"a": 1}}, {"n": 3, "m": 2, "a": 1}),
    ({"l": [1, 2, 1]}, {"$pull": {"l": 1}}, {"l": [2]}),
    ({"a": 1}, {"$rename": {"a": "b"}}, {"b": 1}),
    ({"l": [1]}, {"$addToSet": {"l": 1}}, {"l": [1]}),
]


@pytest.mark.parametrize("reads", [None, ["n"], ["p"]], ids=["whole", "reads another", "reads it"])
def test_h33_an_update_means_what_it_means_to_mongodb(database: Data, reads: list[str] | None) -> None:
    hand = Hand(database, reads=reads)
    changes = []
    for key, (before, update, _) in enumerate(CASES):
        hand.collection.insert_one({"_id": key, **before})
        raw = hand.stored(Key.of(key))
        changes.append((raw, smallest_change(hand.migration, raw, update)))
    written = hand.write(changes)
    refused = {each.key.value for each in written.refused}
    assert refused == {key for key, (_, _, after) in enumerate(CASES) if after is None}
    assert written.applied == len(CASES) - len(refused)
    for row in hand.collection.find():
        before, update, after = CASES[row.pop("_id")]
        mark = row.pop("_whimbrel", None)
        assert row == (before if after is None else after), update
        assert mark == (None if after is None else {"by-hand_v1": TOKEN}), update
    kinds = {each.key.value: each.type for each in written.refused}
    assert {kinds[key] for key in refused} <= {
        "PathNotViable",
        "ConflictingUpdateOperators",
        "TypeMismatch",
        "FailedToParse",
        "DollarPrefixedFieldName",
        "Code56",
    }


ODD_FIELDS: list[tuple[str, Value]] = [
    ("a.b", int32(1)),
    ("$c", NULL),
    ("", string("x")),
    ("n", embedded(field("x.y", int32(1)), field("$z", array(int64(1))))),
]


def test_h33_fields_named_with_dots_and_dollars_stay_where_they_are(database: Data) -> None:
    hand = Hand(database)
    fields = [field(name, value) for name, value in ODD_FIELDS]
    read = hand.insert(
        documents(int32(1), [*fields, field("v", int32(0))]),
        documents(int32(2), [field("v", int32(0)), *fields]),
    )
    assert hand.returned(read, {"$set": {"v": 1, "a.b": 2, "new": {"$d": 1, "e.f": 2}}}).applied == 2
    for before in read:
        now = {name: (kind, value) for name, kind, value in unmarked(hand.stored(Key.of_document(before)))}
        assert [now[name.encode()] for name, _ in ODD_FIELDS] == [value for _, value in ODD_FIELDS]
        assert now[b"v"] == int32(1)
        assert now[b"a"] == embedded(field("b", int32(2)))
        assert now[b"new"] == embedded(field("$d", int32(1)), field("e.f", int32(2)))


def test_a_pipeline_of_a_function_may_replace_the_document(database: Data) -> None:
    hand = Hand(database)
    read = seed(hand, 3, gone=1)
    stages = [{"$replaceWith": {"_id": "$_id", "twice": {"$multiply": ["$n", 2]}}}]
    assert hand.returned(read, stages).applied == 3
    assert [
        each["twice"] for each in hand.collection.find({MARK: TOKEN, "gone": {"$exists": False}}).sort("_id")
    ] == [0, 2, 4]


# marks


def test_outcomes_are_marked_under_the_status_too(database: Data) -> None:
    hand = Hand(database, mark="status")
    read = seed(hand, 3, status="pending")
    mark = Status("status")
    changes: list[Any] = [{"$set": {"n": 9}}, {"$set": {"n": 1}}, {"$inc": {"n": 1}}]
    written = hand.write(
        [
            (each, smallest_change(hand.migration, each, change))
            for each, change in zip(read, changes, strict=True)
        ]
    )
    assert written.applied == 3
    rows = list(hand.collection.find().sort("_id"))
    assert [each["processedBy"] for each in rows] == [TOKEN, f"{TOKEN}/u", TOKEN]
    assert {each["status"] for each in rows} == {"success"}
    assert mark.path is not None
    assert hand.documents.evidence([Key.of(key) for key in range(3)], mark.path, TOKEN) == Counts(
        changed=2, unchanged=1
    )


def test_the_mark_filter_leaves_no_trace(database: Data) -> None:
    hand = Hand(database)
    read = seed(hand, 3)
    assert (
        hand.returned(
            read, {"$set": {"done": True}}, mark=Filter(), eligible={"done": {"$exists": False}}
        ).applied
        == 3
    )
    assert set(hand.collection.find_one({}) or {}) == {"_id", "n", "done"}


def test_the_marks_of_other_migrations_stay(database: Data) -> None:
    hand = Hand(database)
    read = seed(hand, 4, _whimbrel={"other_v3": "old.1"})
    changes: list[Any] = [{"$set": {"a": 1}}, {"$inc": {"n": 1}}, {"_id": 2}, [{"$unset": "n"}]]
    hand.write(
        [
            (each, smallest_change(hand.migration, each, change))
            for each, change in zip(read, changes, strict=True)
        ]
    )
    assert [each["_whimbrel"] for each in hand.collection.find()] == [
        {"other_v3": "old.1", "by-hand_v1": TOKEN}
    ] * 4


def test_h20_an_applications_own_field_of_the_marks_name_is_not_destroyed(database: Data) -> None:
    hand = Hand(database)
    hand.collection.insert_many(
        [{"_id": 1, "_whimbrel": "mine"}, {"_id": 2, "_whimbrel": ["mine"]}, {"_id": 3}]
    )
    read = [bytes(each.raw) for each in hand.raw.find().sort("_id")]
    written = hand.returned(read, {"$set": {"a": 1}})
    assert {each.key.value for each in written.refused} == {1, 2}
    with pytest.raises(Refused):
        hand.documents.update_range(Range(None, Key.of(3)), [{"$set": {"b": 1}}], hand.terms())
    assert [each["_whimbrel"] for each in hand.collection.find().sort("_id").limit(2)] == ["mine", ["mine"]]


# claims and failures


def test_a_claim_is_guarded_and_shows_the_servers_time(database: Data) -> None:
    hand = Hand(database, mark="status")
    read = seed(hand, 3, status="pending")
    hand.collection.update_one({"_id": 1}, {"$set": {"n": -1}})
    guarded = [
        GuardedChange(Key.of_document(each), each, smallest_change(hand.migration, each, {"$set": {"a": 1}}))
        for each in read
    ]
    fields = {"status": "processing", "processedBy": f"{TOKEN}/c", "processingStartedAt": "$$NOW"}
    assert hand.documents.claim(guarded, fields, hand.terms()) == []
    rows = list(hand.collection.find().sort("_id"))
    assert [each["status"] for each in rows] == ["processing", "pending", "processing"]
    now = database.command("hello")["localTime"]
    assert abs((now - rows[0]["processingStartedAt"]).total_seconds()) < 60
    assert "a" not in rows[0]


def test_a_claim_that_the_validator_refuses_is_told(database: Data) -> None:
    hand = Hand(database, mark="status")
    read = seed(hand, 2, status="pending")
    database.command("collMod", "things", validator={"$or": [{"status": "pending"}, {"_id": 1}]})
    guarded = [
        GuardedChange(Key.of_document(each), each, smallest_change(hand.migration, each, {"$set": {"a": 1}}))
        for each in read
    ]
    (trouble,) = hand.documents.claim(guarded, {"status": "processing"}, hand.terms())
    assert (trouble.key, trouble.code) == (Key.of(0), 121)


def test_h21_marking_a_failure_is_best_effort(database: Data) -> None:
    hand = Hand(database, mark="status")
    seed(hand, 3, status="pending")
    database.command("collMod", "things", validator={"$or": [{"status": "pending"}, {"_id": {"$ne": 1}}]})
    keys = [Key.of(key) for key in range(4)]  # one is not there
    hand.documents.mark_failed(keys, {"status": "failed", "processedBy": f"{TOKEN}/f"}, hand.terms())
    assert [each["status"] for each in hand.collection.find().sort("_id")] == ["failed", "pending", "failed"]


def test_tokens_are_those_of_the_documents_asked_for(database: Data) -> None:
    hand = Hand(database)
    read = seed(hand, 4)
    hand.returned(read[:2], {"$set": {"a": 1}})
    hand.returned(read[2:3], {"$set": {"n": 2}}, token="other.1")  # noqa: S106
    keys = [Key.of(key) for key in range(1, 5)]
    assert hand.documents.tokens(keys, MARK) == {Key.of(1): TOKEN, Key.of(2): "other.1/u"}
    found = hand.documents.holders(Range(None, Key.of(9)), {}, "status", MARK)
    assert {token for _, token in found if token} == {TOKEN, "other.1/u"}


# the command


class Commands(CommandListener):
    """What was sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name == "update":
            self.sent.append(event.command)

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


def test_h38_every_statement_is_acknowledged_by_a_majority_bounded_in_time_and_fenced(
    mongo_uri: str, database: Data
) -> None:
    commands = Commands()
    with type(database.client)(mongo_uri, event_listeners=[commands]) as client:
        hand = Hand(client[database.name])
        read = seed(hand, 300)
        hand.returned(read[:250], {"$set": {"a": 1}})
        hand.returned(read[250:], {"$inc": {"n": 1}})
        hand.documents.update_range(Range(None, Key.of(300)), {"$inc": {"n": 1}}, hand.terms())
        hand.documents.update_keys([Key.of(1)], [{"$set": {"n": 1}}], hand.terms(), group=1)
        hand.documents.mark_failed([Key.of(1)], {"x": 1}, hand.terms())
    assert len(commands.sent) == 5
    for command in commands.sent:
        assert command["writeConcern"] == {"w": "majority", "j": True}
        assert command["maxTimeMS"] == 30_000
        assert command["ordered"] is False
        for statement in (bson.decode(each.raw) for each in command["updates"]):
            text = str(statement["q"])
            assert "$$NOW" in text
            byte_by_byte = "$indexOfArray" in text
            assert statement.get("collation") == ({"locale": "simple"} if byte_by_byte else None)
            assert statement["hint"] == {"_id": 1}
    assert [len(each["updates"]) for each in commands.sent[:2]] == [3, 50]
