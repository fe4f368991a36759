"""The strip of a run's key space: every batch is in exactly the cells that it should be, at any size."""

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.domain.runs import keyspace
from whimbrel.domain.runs.keyspace import Grid, InHandPart, Look, painted, run_lengths
from whimbrel.mongo.ledger.failure_sums import failed_bits, failing_bits


@given(planned=st.integers(0, 400), unplanned=st.integers(0, 60), most=st.integers(1, 120))
def test_cells_and_batches_are_each_other_s_inverse(planned: int, unplanned: int, most: int) -> None:
    grid = Grid(planned, unplanned, most)
    total = planned + unplanned
    assert grid.cells <= most
    assert grid.cells == 0 or total > 0
    seen = Counter[int]()
    for cell in range(grid.cells):
        batches = list(grid.batches_of(cell))
        assert batches
        for batch in batches:
            assert cell in grid.cells_of(batch)
            seen[batch] += 1
    each = 1 if total > most else grid.parts
    assert seen == Counter(dict.fromkeys(range(total), each))


@pytest.mark.parametrize(
    ("total", "most", "cells"),
    [(0, 10, 0), (1, 10, 10), (3, 10, 9), (10, 10, 10), (11, 10, 10), (100_000, 10_000, 10_000), (7, 1, 1)],
)
def test_there_are_never_more_cells_than_asked_for(total: int, most: int, cells: int) -> None:
    assert Grid(total, 0, most).cells == cells


def test_a_cell_of_several_batches_tells_what_is_most_worth_knowing() -> None:
    grid = Grid(planned=16, unplanned=4, most=10)  # two batches a cell
    look = Look(
        pending={6: 1, 7: 2}, cancelled={5: 1}, in_hand=[InHandPart(2, 100, 50), InHandPart(9, 100, 0)],
        failing="0000000011000001", failed="1000110011000001",
    )  # fmt: skip
    #                     0-1 2-3 4-5 6-7 8-9 10-11 12-13 14-15 16-17 18-19
    assert painted(grid, look) == "rwrsvxpfnn"


def test_a_batch_in_hand_fills_as_its_documents_are_done() -> None:
    def strip(done: int, failing: str = "") -> str:
        look = Look(pending={8: 1}, in_hand=[InHandPart(1, 1000, done)], failing=failing)
        return painted(Grid(planned=3, unplanned=1, most=16), look)

    assert strip(0) == "sssswwwwppppnnnn"
    assert strip(250) == "ssssswwwppppnnnn"
    assert strip(600) == "sssssswwppppnnnn"
    assert strip(1000) == strip(5000) == "ssssssssppppnnnn"
    assert strip(500, "010") == "ssssffvvppppnnnn"


def test_the_cell_in_which_planning_stands_is_not_unplanned() -> None:
    assert painted(Grid(planned=3, unplanned=3, most=3), Look()) == "ssn"
    assert painted(Grid(planned=0, unplanned=5, most=2), Look()) == "nn"


@given(st.text("sfwvpxnr", max_size=300))
def test_run_lengths_can_be_read_back(letters: str) -> None:
    text, found = run_lengths(letters), ""
    while text:
        letter, digits = text[0], ""
        text = text[1:]
        while text and text[0].isdigit():
            digits, text = digits + text[0], text[1:]
        found += letter * int(digits)
    assert found == letters
    assert len(run_lengths("s" * 9999 + "w")) == 7


@given(st.sets(st.integers(0, 999)))
def test_bits_of_a_block_are_the_same_however_they_are_kept(places: set[int]) -> None:
    words: dict[str, int] = {}
    for place in places:
        words[str(place // 32)] = words.get(str(place // 32), 0) + 2 ** (place % 32)
    bits = failing_bits(places)
    assert bits == failed_bits(words)
    assert {place for place in range(1000) if bits[place // 8] >> place % 8 & 1} == places


def test_the_page_has_words_and_a_colour_for_every_state_of_a_cell() -> None:
    letters = {value for name, value in vars(keyspace).items() if name.isupper() and isinstance(value, str)}
    script = Path(keyspace.__file__).parents[2] / "dashboard" / "static" / "strip.js"
    words, colours = (
        re.search(rf"{begin} \{{(.*?)\}};", script.read_text(), re.DOTALL) for begin in ("STATES =", "return")
    )
    assert letters == {"s", "r", "f", "w", "v", "p", "x", "n"}
    for found in (words, colours):
        assert found is not None
        assert letters <= set(re.findall(r"(?:^|[\s,])([a-z]): ", found[1]))
