"""What a process learns: notes take no more than their share, and stretches no longer than they may."""

import pytest

from whimbrel.engine.executing.chunk_costs import SAVED, SHORT, ChunkCosts


@pytest.mark.parametrize("cost", [0.0003, 0.004, 0.05])
@pytest.mark.parametrize("chunk", [0.002, 0.03, 2.0])
def test_notes_take_no_more_than_their_share_and_what_was_saved(cost: float, chunk: float) -> None:
    learned, worked, spent = ChunkCosts(), 0.0, 0.0
    for _ in range(5000):
        worked += chunk
        learned.earn(chunk / 100)
        if learned.affords_note:
            learned.spend(cost)
            spent += cost
    assert 0 < spent <= worked / 100 + 2 * SAVED + cost


def test_the_first_chunks_are_noted_one_by_one() -> None:
    learned = ChunkCosts()
    for _ in range(10):
        assert learned.affords_note
        learned.spend(0.001)


def test_without_a_limit_every_chunk_is_noted() -> None:
    learned = ChunkCosts()
    for _ in range(100):
        learned.earn(float("inf"))
        assert learned.affords_note
        learned.spend(0.5)


@pytest.mark.parametrize(("chunk", "settled"), [(0.03, 3), (0.24, 1), (0.0001, 1000)])
def test_chunks_are_worked_off_together_while_that_is_short(chunk: float, settled: int) -> None:
    learned = ChunkCosts()
    for _ in range(20):
        together = learned.chunks("a")
        learned.record("a", together, together * chunk)
    assert learned.chunks("a") == pytest.approx(settled, abs=1)
    assert learned.chunks("a") * chunk <= max(SHORT, chunk)
    assert learned.chunks("another") == 2
