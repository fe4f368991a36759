"""Going carefully after documents have mostly failed. Pure."""

from whimbrel.domain.runs.caution import STEPS, Caution


def test_it_is_careful_after_chunks_that_have_mostly_failed_and_only_for_so_long() -> None:
    caution = Caution()
    assert not caution.after(100, 50)
    assert not caution.after(19, 19), "so few say nothing"
    assert caution.after(100, 51)
    assert [caution.after(100, 100) for _ in range(STEPS)] == [True] * (STEPS - 1) + [False]
    assert Caution().after(100, 100), "each run for itself"
