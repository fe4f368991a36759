"""Sizes by time and bytes: tables written by hand."""

import pytest

from whimbrel.domain.runs.chunk_size import ChunkSize, chunks_by_bytes
from whimbrel.domain.runs.sizing import (
    BatchWork,
    Sizing,
    largest_batch,
    measure,
    next_batch_size,
    sizing_sentence,
)

KB, MB = 1024, 1024 * 1024


def taken(documents: int, seconds: float, chunk: int = 1000) -> BatchWork:
    return BatchWork(documents, seconds, chunk, "planned")


@pytest.mark.parametrize(
    ("size", "rate", "largest", "expected"),
    [
        (5000, 250, 50_000, 5000),  # 20 seconds: just right
        (5000, 500, 50_000, 5000),  # 10 seconds
        (5000, 170, 50_000, 5000),  # 29 seconds
        (5000, 160, 50_000, 3200),  # 31 seconds: 20 of them
        (5000, 1, 50_000, 100),  # never smaller than 100
        (1000, 20, 50_000, 400),  # a function of 50 ms
        (1000, 600, 50_000, 2000),  # never more than twice as large at once
        (5000, 600, 50_000, 10_000),
        (9000, 1000, 50_000, 18_000),
        (40_000, 30_000, 50_000, 50_000),
        (5000, 30_000, 5000, 5000),  # a small collection
        (20_000, 30_000, 5000, 5000),  # it was larger than its collection allows
        (1000, 123.4, 50_000, 2000),
        (1000, 76.4, 50_000, 1000),  # 13 seconds
        (4000, 76.4, 50_000, 1500),  # two digits count
    ],
)
def test_batches_take_20_seconds(size: int, rate: float, largest: int, expected: int) -> None:
    assert next_batch_size(size, Sizing(measured=True, rate=rate), largest=largest) == expected


def test_a_rate_of_the_run_counts_where_it_is_slower() -> None:
    sizing = Sizing(measured=True, rate=30_000)
    assert next_batch_size(5000, sizing, largest=50_000, run_rate=100) == 2000
    assert next_batch_size(5000, sizing, largest=50_000, run_rate=10**6) == 10_000


def test_a_size_that_was_set_and_one_of_which_nothing_is_known_stay() -> None:
    assert next_batch_size(5000, Sizing(measured=False, rate=1.0), largest=50_000) == 5000
    assert next_batch_size(5000, Sizing(measured=True), largest=50_000) == 5000


def test_small_collections_have_no_large_batches() -> None:
    assert [largest_batch(documents) for documents in (0, 200_000, 1_000_000, 10**8)] == [
        5000,
        5000,
        25_000,
        50_000,
    ]


def test_what_batches_took_is_measured_over_all_of_them() -> None:
    sizing = Sizing(measured=True)
    assert measure(sizing, []) == sizing
    assert measure(sizing, [taken(0, 100.0)]) == sizing  # nothing was done in it
    assert measure(sizing, [taken(10, 0.01)]) == sizing  # too short to tell anything
    found = measure(sizing, [taken(100, 1.0, 50), taken(300, 1.0, 70), taken(200, 2.0, 60)])
    assert (found.measured, found.rate, found.chunk) == (True, 150.0, 60)


def test_the_sentence_says_why() -> None:
    assert sizing_sentence(5000, Sizing()) == ""
    sizing = Sizing(measured=True, rate=640.0, chunk=320, limit="time")
    assert (
        sizing_sentence(12_800, sizing)
        == "batches of 12,800: about 20 s of work each at 640 documents/s a slot; statements of up to 320 to take half a second"
    )
    set_by_hand = Sizing(measured=False, rate=640.0, chunk=1000, limit="planned")
    assert (
        sizing_sentence(640, set_by_hand)
        == "batches of 640: about 1 s of work each at 640 documents/s a slot, a size that was set; statements of up to 1,000"
    )


@pytest.mark.parametrize(
    ("document_bytes", "documents", "together"),
    [(0, 1000, 1000), (200, 1000, 41), (8 * KB, 1000, 1), (80 * KB, 102, 1), (MB, 8, 1), (16 * MB, 1, 1)],
)
def test_chunks_have_8_mb(document_bytes: int, documents: int, together: int) -> None:
    assert ChunkSize(document_bytes).documents == documents
    assert min(1000, chunks_by_bytes(document_bytes)) == together


def test_statements_shrink_at_once_and_grow_by_half() -> None:
    size = ChunkSize()
    assert (size.documents, size.limit) == (1000, "planned")
    size.record(1000, 2.0)
    assert (size.documents, size.limit) == (250, "time")
    for expected in (375, 562, 843, 1000):
        size.record(size.documents, size.documents / 100_000)
        assert size.documents == expected
    size.shrink()
    assert size.documents == 500
    for _ in range(20):
        size.shrink()
    assert size.documents == 1


def test_slow_statements_have_no_fewer_than_10_documents() -> None:
    size = ChunkSize()
    for _ in range(30):
        size.record(size.documents, 60.0)
    assert size.documents == 10


def test_a_statement_that_changed_little_tells_nothing() -> None:
    size = ChunkSize()
    size.record(3, 3.0)
    assert size.documents == 1000


def test_conflicts_shrink_statements_to_100_documents_but_no_further() -> None:
    size = ChunkSize()
    size.record(1000, 0.01, conflicts=10)
    assert size.documents == 1000
    size.record(1000, 0.01, conflicts=11)
    assert size.documents == 500
    for _ in range(9):
        size.record(size.documents, 0.01, conflicts=size.documents // 2)
    assert size.documents == 100
