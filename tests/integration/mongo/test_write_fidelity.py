"""What is written is what MongoDB itself would have written, and all else stays byte for byte."""

from collections.abc import Iterator
from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from hypothesis import example, given
from hypothesis import strategies as st
from pymongo.errors import WriteError

from tests.bson_values import FIELDS, NAMES, documents, field, int32, python_values, relaxed, updates
from tests.integration.guarded_writes import Client, Hand, new_name, unmarked
from whimbrel.domain.bson.raw_bson import DOCUMENT_OPTIONS, Key, document
from whimbrel.domain.migrations.smallest_change import Unwritable, smallest_change

RELAXED = relaxed(100)


@pytest.fixture(scope="module")
def hands(client: Client) -> Iterator[tuple[Hand, Hand, Hand]]:
    """One that guards the whole document, one that guards declared reads, and one for MongoDB alone."""
    database = client[new_name()]
    yield Hand(database, "ours"), Hand(database, "reads", reads=["a"]), Hand(database, "theirs")
    client.drop_database(database.name)


UPDATES = updates(["a", "b", "c", "0", "1", "10", "ü", "new"], nested_renames=True)


def afresh(hand: Hand, raw: bytes) -> bytes:
    hand.raw.delete_many({})
    return hand.insert(raw)[0]


UNDEFINED, SYMBOL = b"\x06a\x00", b"\x0ea\x00\x02\x00\x00\x00x\x00"


@RELAXED
@given(fields=FIELDS, update=UPDATES)
@example(fields=[UNDEFINED], update={"$set": {"a": None}})
@example(fields=[UNDEFINED, SYMBOL.replace(b"a", b"b")], update={"$set": {"b": "x", "a": 1}})
@example(fields=[SYMBOL], update={"$set": {"a": "x"}})
def test_an_update_does_what_update_one_does(
    hands: tuple[Hand, Hand, Hand], fields: list[bytes], update: dict[str, Any]
) -> None:
    raw = documents(int32(1), fields)
    theirs = hands[2]
    before = afresh(theirs, raw)
    code = None
    try:
        theirs.collection.update_one({"_id": 1}, update)
    except WriteError as error:
        code = error.code
    wanted = unmarked(theirs.stored(Key.of(1)))
    for ours in hands[:2]:
        read = afresh(ours, before)
        written = ours.returned([read], update)
        now = unmarked(ours.stored(Key.of(1)))
        assert [each.code for each in written.refused] == ([code] if code else [])
        assert written.applied == (0 if code else 1)
        assert now == wanted


@RELAXED
@given(
    fields=FIELDS,
    values=st.dictionaries(NAMES, python_values(), max_size=3),
    gone=st.lists(NAMES, max_size=2),
)
def test_a_returned_document_changes_what_differs_and_nothing_else(
    hands: tuple[Hand, Hand, Hand], fields: list[bytes], values: dict[str, Any], gone: list[str]
) -> None:
    for ours in hands[:2]:
        read = afresh(ours, documents(int32(1), fields))
        returned = bson.decode(read, DOCUMENT_OPTIONS) | values
        returned = {name: value for name, value in returned.items() if name not in gone}
        written = ours.returned([read], returned)
        assert (written.applied, written.refused) == (1, ())
        now = unmarked(ours.stored(Key.of(1)))
        wanted = [each for each in unmarked(read) if each[0].decode() not in {*values, *gone}]
        assert [each for each in now if each[0].decode() not in values] == wanted
        for name, value in values.items():
            if name not in gone:
                stored = bson.decode(
                    document([field(each[0].decode(), (each[1], each[2])) for each in now]).raw,
                    DOCUMENT_OPTIONS,
                )
                assert bson.encode({"": stored[name]}) == bson.encode(
                    {"": bson.decode(bson.encode({"": value}), DOCUMENT_OPTIONS)[""]}
                )


@RELAXED
@given(fields=st.lists(FIELDS, min_size=2, max_size=2).map(lambda pair: pair[0] + pair[1]), update=UPDATES)
def test_a_field_that_is_there_twice_is_left_as_it_is(
    hands: tuple[Hand, Hand, Hand], fields: list[bytes], update: dict[str, Any]
) -> None:
    """Names may be repeated here, at the top and within: the server survives, and no other field changes."""
    ours = hands[0]
    read = afresh(ours, documents(int32(1), fields))
    try:
        change = smallest_change(ours.migration, read, update)
    except Unwritable:
        return
    written = ours.write([(read, change)])
    now = unmarked(ours.stored(Key.of(1)))
    if written.refused:
        assert now == unmarked(read)
        return
    assert written.applied == 1
    tops = {
        path.partition(".")[0] for body in update.values() for each in body.items() for path in map(str, each)
    }
    assert [each for each in now if each[0].decode() not in tops] == [
        each for each in unmarked(read) if each[0].decode() not in tops
    ]
    assert isinstance(ours.raw.find_one({}), RawBSONDocument)
