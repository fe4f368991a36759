"""Failures by cause: few groups however many texts there are, dead ones first, numbers that are kept and exact, pages of both lists."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from pymongo.database import Database

from tests.conftest import SHORT
from tests.integration.coordinating.test_waiting_runs import current, looked_at
from tests.integration.in_process_system import migrate, start, system, until
from tests.integration.ledger.test_failures_at_scale import working
from whimbrel import Migration
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument, Failure, FailureGroup, FailureKind, FailureState
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Counts
from whimbrel.engine.operating.control import group_of, retry
from whimbrel.engine.operating.run_view import view
from whimbrel.errors import CursorInvalid
from whimbrel.mongo.store import MongoStore, connected

Data = Database[dict[str, Any]]
STATES = ("dead", "open", "resolved")


def groups(store: MongoStore, run: str, **options: Any) -> list[FailureGroup]:
    """All groups, a page after the other."""
    found: list[FailureGroup] = []
    while True:
        page = store.ledger.failures.groups(run, **options)
        found += page.groups
        if page.after is None:
            return found
        options["after"] = page.after


def by_rows(database: Data, run: str) -> dict[str, Counter[str]]:
    """What the rows say: states by group."""
    found: dict[str, Counter[str]] = {}
    for row in database["whimbrel_failures"].find({"run": run, "state": {"$in": STATES}}):
        found.setdefault(row["group"], Counter())[row["state"]] += 1
    return found


def kept(store: MongoStore, run: str) -> dict[str, Counter[str]]:
    return {
        each.group: +Counter(dead=each.dead, open=each.open, resolved=each.resolved)
        for each in groups(store, run)
    }


def trouble(
    key: Any, message: str, type_: str = "E", kind: FailureKind = FailureKind.DATA, place: str = ""
) -> FailedDocument:
    return FailedDocument(key=Key.of(key), kind=kind, type=type_, message=message, place=place)


def test_texts_of_documents_make_no_groups_and_the_one_that_is_dead_comes_first(
    store: MongoStore, database: Data
) -> None:
    names = [
        f"{first} {last}" for first in ("Zoë", "Ann", "Bob", "O'Neil", "José") for last in "ABCDEFGH" * 3
    ]
    database["people"].insert_many(
        {"_id": key, "name": f"{name} {'x' * (key % 7)}", "age": key} for key, name in enumerate(names)
    )

    def bad(person: dict[str, Any]) -> Any:
        if person["age"] == 17:
            raise KeyError("price")
        if person.get("mended"):
            return {"$set": {"a": 1}}
        raise ValueError(f"who is {person['name'].strip()} of {person['age']}?")

    it = Migration(name="named", collection="people", transform=bad)
    run = migrate(store, it).run
    assert len(store.ledger.failures.groups(run.id).groups) <= 7
    database["people"].update_many({}, {"$set": {"mended": True}})
    retry(store.ledger, run.id, who="test")
    with system(store, [it]):
        until(store, run)
    first, *others = store.ledger.failures.groups(run.id).groups
    assert (first.type, first.dead, first.resolved, first.example.value) == ("KeyError", 1, 0, 17)
    assert {(each.type, each.dead) for each in others} == {("ValueError", 0)}
    assert sum(each.resolved for each in others) == len(names) - 1
    assert "test_failure_causes.py:" in first.place
    assert first.place.endswith(" in bad")
    assert [each.group for each in groups(store, run.id, state=FailureState.DEAD)] == [first.group]
    assert group_of(store.ledger, run.id, first.signature) == first.group


@pytest.mark.parametrize("place", ["", "a.py:1 in f"])
def test_messages_that_have_nothing_in_common_are_a_few_groups_of_their_place(
    store: MongoStore, database: Data, place: str
) -> None:
    run, (batch, *_) = working(store, database)
    words = ["".join(random.Random(key).sample("abcdefghijklmnop", 8)) for key in range(300)]
    for at in range(0, 300, 60):
        page = [trouble(key, words[key], place=place) for key in range(at, at + 60)]
        store.ledger.failures.record(run, batch, page)
    found = groups(store, run.id)
    assert len(found) <= (6 if place else 21)
    assert sum(each.dead for each in found) == 300
    assert max(found, key=lambda each: each.dead).signature.endswith("<various messages>")
    store.ledger.failures.record(run, batch, [trouble(1000, "other", place=f"{place}b.py:2 in g")])
    assert len(groups(store, run.id)) == len(found) + 1, "another place has groups of its own"


def test_a_run_has_so_many_groups_at_most_and_the_last_are_those_of_all_others(
    store: MongoStore, database: Data
) -> None:
    run, (batch, *_) = working(store, database)
    kinds = [FailureKind.DATA, FailureKind.CONFLICT]
    troubles = [trouble(key, "bad", f"E{key}", kinds[key % 2]) for key in range(1200)]
    store.ledger.failures.record(run, batch, troubles[:900])
    store.ledger.failures.record(run, batch, troubles[900:])
    found = groups(store, run.id, limit=100)
    assert len(found) <= 500
    others = [each for each in found if "<other causes>" in each.signature]
    assert {each.kind for each in others} == {"data", "conflict"}
    assert sum(each.dead + each.open for each in found) == 1200
    assert kept(store, run.id) == by_rows(database, run.id)
    counts = store.ledger.failures.counts(run.id)
    assert (counts["conflict"], counts["failed"]) == (600, 600)


def test_h69_processes_that_meet_new_causes_at_once_keep_the_bound(
    store: MongoStore, database: Data, mongo_uri: str
) -> None:
    run, (one, two, _) = working(store, database)
    with connected(mongo_uri, database.name, SHORT) as other:
        for ledger, batch, keys in ((store.ledger, one, range(480)), (other.ledger, two, range(480, 960))):
            ledger.failures.record(
                run, batch, [trouble(keys[0], "bad", f"E{keys[0]}")]
            )  # now each knows the run
            ledger.failures.record(run, batch, [trouble(key, "bad", f"E{key}") for key in keys])
        store.ledger.failures.record(run, one, [trouble(key, "bad", f"E{key}") for key in range(960, 1400)])
    numbers = sorted(row["_id"]["n"] for row in database["whimbrel_causes"].find({"run": run.id}))
    assert numbers == list(range(len(numbers)))
    assert len(numbers) <= 500
    assert kept(store, run.id) == by_rows(database, run.id)


def test_numbers_of_groups_say_what_the_rows_say_after_any_changes(store: MongoStore, database: Data) -> None:
    dice = random.Random(11)
    run, batches = working(store, database)
    failures = store.ledger.failures
    settled: set[str] = set()
    for _ in range(60):
        batch, key, cause = dice.choice(batches), dice.randrange(12), dice.choice("abc")
        several = [trouble(each, cause, kind=dice.choice(list(FailureKind))) for each in range(key, key + 3)]
        changes: list[Callable[[], object]] = [
            partial(failures.record, run, batch, several),
            lambda key=key: failures.resolve(failures.unresolved(run, [Key.of(key)]), "changed"),  # type: ignore[misc]
            partial(failures.reopen, run.id),
            partial(failures.add_up, run.id),
            partial(failures.keep_some, 60),
        ]
        dice.choice(changes[1:] if batch.token in settled else changes)()
        if dice.random() < 0.05 and batch.token not in settled:
            store.ledger.batches.settle(batch, Counts())
            settled.add(batch.token)
        assert kept(store, run.id) == by_rows(database, run.id)
    assert settled


def test_of_two_thousand_batches_the_sums_are_kept_in_three_rows(store: MongoStore, database: Data) -> None:
    database["things"].insert_one({"_id": 0})
    run = start(store, Migration(name="many", collection="things", update={"$set": {"a": 1}}))
    run, batches = (
        current(store, run),
        [
            Batch(run=run.id, seq=seq, leg=0, phase="pending", lo=Key.of(seq), cuts=(Key.of(seq + 1),))
            for seq in range(1, 2500)
        ],
    )
    store.ledger.batches.add(batches)
    failures = store.ledger.failures
    for batch in batches[::200]:
        failures.record(run, batch, [trouble(batch.seq, "bad"), trouble(-batch.seq, "worse")])
    asked: dict[str, Callable[[], object]] = {
        "counts": lambda: failures.counts(run.id), "groups": lambda: failures.groups(run.id),
    }  # fmt: skip
    before = {name: looked_at(database, ask) for name, ask in asked.items()}
    failures.keep_some(60)
    rows = list(database["whimbrel_blocks"].find({"run": run.id}))
    assert sorted((row["block"], row["marked"], row["n"]) for row in rows) == [
        (0, False, 10),
        (1, False, 10),
        (2, False, 6),
    ]
    after = {name: looked_at(database, ask) for name, ask in asked.items()}
    assert all(after[name] < before[name] and after[name] < 20 for name in asked), (before, after)
    assert failures.counts(run.id)["dead"] == 26
    assert failures.numbers(run.id)[1] == 13
    failures.resolve(failures.unresolved(run, [Key.of(batches[200].seq)]), "changed")
    assert failures.counts(run.id)["dead"] == 25, "a block that was changed is asked for by its batches"
    assert kept(store, run.id) == by_rows(database, run.id)


def test_groups_cost_the_same_however_many_documents_fail(store: MongoStore, database: Data) -> None:
    run, (few, many, _) = working(store, database)
    failures = store.ledger.failures
    asked: dict[str, Callable[[], object]] = {
        "groups": lambda: failures.groups(run.id),
        "dead": lambda: failures.list(run.id, state=FailureState.DEAD, limit=5),
        "all": lambda: failures.list(run.id, limit=5),
        "status": lambda: view(store.ledger, current(store, run)),
    }
    failures.record(run, few, [trouble(key, "bad") for key in range(5)])
    store.ledger.batches.settle(few, Counts())
    before = {name: looked_at(database, ask) for name, ask in asked.items()}
    failures.record(run, many, [trouble(key, "bad") for key in range(10, 2010)])
    store.ledger.batches.settle(many, Counts())
    after = {name: looked_at(database, ask) for name, ask in asked.items()}
    assert {name: number for name, number in after.items() if number > before[name] + 20} == {}


def listed(store: MongoStore, run: str, limit: int, **options: Any) -> Iterator[Failure]:
    """All failures, a page after the other."""
    while page := store.ledger.failures.list(run, limit=limit, **options):
        yield from page
        options["after"] = page[-1].place


def test_pages_of_failures_hold_each_once_for_all_types_of_keys(store: MongoStore, database: Data) -> None:
    run, (batch, *_) = working(store, database)
    failures = store.ledger.failures
    keys: Sequence[Any] = [1, 2.5, "a", "b", {"k": 1}, None, b"x", True, *range(10, 20)]
    failures.record(
        run, batch, [trouble(key, "ab"[at % 2], kind=FailureKind.CODE) for at, key in enumerate(keys)]
    )
    failures.resolve(failures.unresolved(run, [Key.of(key) for key in (2.5, "b", 11)]), "gone")
    for _ in range(2):  # spent: dead
        for seq in (2, 3):
            failures.record(
                run,
                Batch(run=run.id, seq=seq, leg=0, phase="failed"),
                [trouble(1, "a", kind=FailureKind.CODE)],
            )
    whole = failures.list(run.id, limit=1000)
    assert Counter(each.state for each in whole) == {"dead": 1, "open": len(keys) - 4, "resolved": 3}
    assert [each.state for each in whole] == sorted(each.state for each in whole), (
        "those first that wait for somebody"
    )
    for limit in (1, 2, 5):
        assert list(listed(store, run.id, limit)) == whole
    one = whole[3].group
    assert list(listed(store, run.id, 2, group=one)) == [each for each in whole if each.group == one]
    for state in (FailureState.OPEN, FailureState.RESOLVED):
        found = list(listed(store, run.id, 2, state=state, group=one))
        assert found == [each for each in whole if each.group == one and each.state is state]
    page = failures.groups(run.id, limit=1)
    assert (len(page.groups), page.rest) == (1, 1)
    rest = failures.groups(run.id, after=page.after)
    assert (page.dead, page.open, page.resolved) == tuple(
        rest.groups[0].of(FailureState(each)) for each in STATES
    )
    assert (rest.after, rest.rest) == (None, 0)
    with pytest.raises(CursorInvalid):
        failures.groups(run.id, after="nonsense")
