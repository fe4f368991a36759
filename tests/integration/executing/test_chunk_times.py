"""How long chunks took is counted where they are executed, settled with their batch, and added to the run once."""

from dataclasses import replace

from tests.integration.in_process_system import migrate
from whimbrel import Migration
from whimbrel.domain.runs.chunk_times import ChunkTimes
from whimbrel.domain.runs.run import Counts
from whimbrel.mongo.store import MongoStore


def test_each_chunk_of_a_run_is_counted_once(store: MongoStore) -> None:
    things = store.client[store.database]["things"]
    things.insert_many({"_id": n} for n in range(40))
    declared = Migration(name="declared", collection="things", update={"$set": {"a": 1}})
    called = Migration(name="called", collection="things", transform=lambda _: {"$set": {"b": 1}})
    for it in (declared, called):
        run = migrate(store, it, batch_size=20).run
        times, batches = run.chunk_times, store.ledger.batches.list(run.id)
        of_batches = [ChunkTimes(*counted(store, batch.token)) for batch in batches if batch.counts.total]
        assert sum(times.numbers) == sum(sum(each.numbers) for each in of_batches) >= 2, it.name
        assert times.seconds > 0
    again = ChunkTimes((1,) * 9, 3.0)
    assert not store.ledger.runs.fold(replace(run, folded_through=0), Counts(), 1, inferred=False, chunk_times=again)  # fmt: skip
    found = store.ledger.runs.get(run.id)
    assert found is not None
    assert found.chunk_times == run.chunk_times


def counted(store: MongoStore, token: str) -> tuple[tuple[int, ...], float]:
    row = store.client[store.database]["whimbrel_batches"].find_one({"_id": token})
    assert row is not None
    times = row["chunkTimes"]
    return tuple(times[str(place)] for place in range(9)), times["seconds"]


def test_classes_are_by_their_upper_end() -> None:
    times = ChunkTimes().with_one(0.05).with_one(0.06).with_one(11.0)
    assert times.numbers == (1, 1, 0, 0, 0, 0, 0, 0, 1)
    assert list(times.cumulative)[-2:] == [(10.0, 2), (float("inf"), 3)]
    assert times + times == ChunkTimes((2, 2, 0, 0, 0, 0, 0, 0, 2), 22.22)
