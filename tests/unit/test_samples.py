"""Sample documents and runs: the same for the same seed, made one by one; and one seeding at a time."""

import threading
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pytest

from whimbrel.domain.migrations.valid_names import NAME
from whimbrel.domain.runs.states import RunStatus
from whimbrel.errors import Transient
from whimbrel.samples.guide import MOST
from whimbrel.samples.runs import RESTING, sample_runs
from whimbrel.samples.seeder import STATUSES, Status, documents
from whimbrel.samples.seeding import Seed, Seeding, SeedingBusy

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def test_documents_are_the_same_for_the_same_seed() -> None:
    options: dict[str, Any] = {"status": "mixed", "invalid": 0.3}
    assert list(documents(500, seed=4, **options)) == list(documents(500, seed=4, **options))
    assert list(documents(500, seed=4, **options)) != list(documents(500, seed=5, **options))
    assert list(documents(500, seed=4, **options))[:200] == list(documents(200, seed=4, **options))


@pytest.mark.parametrize("status", ["mixed", *STATUSES])
def test_documents_are_of_the_status_asked_for(status: Status) -> None:
    found = {each["status"] for each in documents(400, status=status)}
    assert found == (set(STATUSES) if status == "mixed" else {status})


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.1, 50, 160), (1.0, 1000, 1000)])
def test_the_share_of_invalid_documents(share: float, low: int, high: int) -> None:
    made = list(documents(1000, invalid=share))
    assert low <= sum(not isinstance(each["data"], dict) for each in made) <= high
    for each in made:
        score, level = (
            each["data"].values() if isinstance(each["data"], dict) else map(int, each["data"].split("/"))
        )
        assert 0 <= score < 1000
        assert 1 <= level <= 10


def test_memory_does_not_grow_with_the_number() -> None:
    tracemalloc.start()
    try:
        made = documents(MOST, status="mixed")
        for _ in islice(made, 20_000):
            pass
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_sample_runs_add_up() -> None:
    made = list(sample_runs(50, database="some", now=NOW, seed=2))
    assert {each.run.status for each in made} == set(RESTING)
    assert len({each.run.id for each in made}) == 50
    for each in made:
        run = each.run
        assert run.counts.changed == sum(batch.counts.changed for batch in each.batches)
        assert run.folded_through == len(each.batches)
        assert bool(each.failures) == (run.status is RunStatus.COMPLETED_WITH_FAILURES)
        assert run.counts.total + len(each.failures) == 1000 * len(each.batches)
        assert run.created_at < run.updated_at < NOW
        assert not NAME.fullmatch(run.migration)  # so no migration is called like that
    plain = [(each.run.status, each.run.counts, each.run.created_at) for each in made]
    again = sample_runs(50, database="some", now=NOW, seed=2)
    assert plain == [(each.run.status, each.run.counts, each.run.created_at) for each in again]


def test_one_seeding_at_a_time() -> None:
    seeding, go_on = Seeding(), threading.Event()

    def insert(_: Callable[[], bool]) -> Iterator[int]:
        yield 1
        assert go_on.wait(10)
        yield 2

    nothing = seeding.progress
    assert nothing is None
    assert seeding.start(Seed(2, 7, insert)).state == "running"
    for begin in (seeding.run, seeding.start):
        with pytest.raises(SeedingBusy):
            begin(Seed(2, 8, insert))
    go_on.set()
    with seeding.stopped():
        found = seeding.progress
        assert found is not None
        assert (found.state, found.inserted, found.seed) == ("done", 2, 7)
        with pytest.raises(SeedingBusy):
            seeding.run(Seed(2, 8, insert))
    assert seeding.run(Seed(2, 9, insert)).seed == 9


def test_a_seeding_that_fails_says_why_and_makes_room() -> None:
    seeding = Seeding()

    def insert(_: Callable[[], bool]) -> Iterator[int]:
        yield 10
        raise Transient("MongoDB does not answer.")

    with pytest.raises(Transient):
        seeding.run(Seed(20, 1, insert))
    seeding.start(Seed(20, 2, insert))
    with seeding.stopped():
        found = seeding.progress
    assert found is not None
    assert (found.state, found.inserted, found.error, found.seed) == (
        "failed",
        10,
        "MongoDB does not answer.",
        2,
    )


def test_a_seeding_is_stopped_and_none_begins_after_the_end() -> None:
    seeding = Seeding()

    def insert(stop: Callable[[], bool]) -> Iterator[int]:
        number = 0
        while not stop():
            yield (number := number + 1)

    seeding.start(Seed(10**12, 1, insert))
    seeding.close()
    found = seeding.progress
    assert found is not None
    assert found.state == "stopped"
    with pytest.raises(SeedingBusy):
        seeding.start(Seed(1, 1, insert))
