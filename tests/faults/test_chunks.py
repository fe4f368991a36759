"""kill -9 in the last chunk of a batch: only that chunk is done again, looked at again and counted by what its documents show."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.rig import PATIENT, Rig
from tests.integration.profiling import Looks, profiled

COUNT = 5000  # five chunks
ONE_CHUNK_A_STATEMENT = 10_000_000  # documents a second, which nobody reaches


def eventually(what: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def of(rows: list[dict[str, Any]], token: str, op: str) -> list[dict[str, Any]]:
    """Statements of a kind about one batch."""
    return [each for each in rows if each["op"] == op and token in str(each["command"])]


def examined(looks: Looks) -> int:
    """Keys that were looked at to find documents."""
    return sum(each.get("keysExamined", 0) for each in looks.rows() if each["op"] in ("query", "getmore"))


@pytest.mark.parametrize("mark", ["marker", "filter"])
def test_h62_an_update_killed_in_its_last_chunk_does_only_that_again(rig: Rig, mark: str) -> None:
    rig.seed(COUNT)
    rig.environment |= PATIENT
    rig.die_at("S6", 5, deaths=1)
    database = rig.store.client[rig.store.database]
    with profiled(database) as looks:
        run = rig.start(f"declarative-{mark}", batch_size=COUNT, rate=ONE_CHUNK_A_STATEMENT)
        rig.parent(workers=1, slots=1)
        found = rig.finish(run)
        rows = looks.rows()
    assert rig.deaths_left() == 0
    rig.reckon(found, COUNT)
    [batch] = [
        each for each in rig.store.ledger.batches.list(run.id) if each.phase == "pending" and each.cuts
    ]
    assert [(each.end, each.counts.changed, each.failed) for each in batch.progress.stretches] == [
        (end, 1000, 0) for end in range(1, 6)
    ]
    if mark == "marker":  # the others carry no token
        written = of(rows, batch.token, "update")
        # One that took long makes the next ones smaller: then there are more of them, about as many documents.
        assert sum(each["nMatched"] for each in written) == COUNT
        assert sum(each["keysExamined"] for each in written) <= COUNT + 1000 + len(written)
        [evidence] = of(rows, batch.token, "command")
        assert evidence["keysExamined"] <= 1001
    else:
        counting = [
            each for each in rows if "$count" in str(each["command"]) or "$group" in str(each["command"])
        ]
        ranges = [each["keysExamined"] for each in counting if "$gt" in str(each["command"])]
        # Is the filter false now, of some? And what was eligible in the chunk, and still is; of a part where statements are smaller.
        assert ranges
        assert max(ranges) <= 1000
        assert sum(ranges) <= 2 * 1000 + 2 * 20


@pytest.mark.parametrize("mark", ["marker", "filter"])
def test_h62_a_function_killed_in_its_last_chunk_is_asked_for_nothing_else_again(rig: Rig, mark: str) -> None:
    rig.seed(COUNT)
    rig.environment |= PATIENT
    rig.hold(4500)
    database = rig.store.client[rig.store.database]
    with profiled(database) as looks:
        run = rig.start(f"holding-{mark}", batch_size=COUNT, rate=ONE_CHUNK_A_STATEMENT)
        rig.parent(workers=1, slots=1)
        eventually(lambda: rig.holds)
        before = examined(looks)
        for child in rig.children():
            child.kill()
        rig.let_go()
        found = rig.finish(run)
        again = examined(looks) - before
    rig.reckon(found, COUNT)
    assert again <= 1000 + COUNT + 100  # the last chunk, and the sweep; a key beyond each page
    [batch] = [
        each for each in rig.store.ledger.batches.list(run.id) if each.phase == "pending" and each.cuts
    ]
    assert [(each.end, each.counts.changed) for each in batch.progress.stretches] == [
        (end, 1000) for end in range(1, 6)
    ]
