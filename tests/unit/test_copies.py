"""Marked documents that came after a run's last look are told by their ids."""

from typing import Any

import pytest
from bson import ObjectId

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.engine.verifying.copied_documents import count_inserted_since
from whimbrel.ports.examiner import Marked


def of(seconds: int) -> ObjectId:
    return ObjectId(seconds.to_bytes(4, "big") + bytes(8))


BEFORE, BORN = of(1000), of(2000)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (of(1), of(999), (0, 0)),  # all are older than the run
        (of(2000), of(3000), (5, 0)),  # all are younger than its last look
        (of(1), of(3000), (0, 5)),
        (of(1500), of(1600), (0, 5)),  # made beside the run
        (1, 9, (0, 5)),
        (1, of(1), (0, 5)),
    ],
)
def test_those_that_came_since_and_those_whose_ids_do_not_tell(
    low: Any, high: Any, expected: tuple[int, int]
) -> None:
    marked = Marked("20260101-aaaaaa.1", missing=False, count=5, low=Key.of(low), high=Key.of(high))
    assert count_inserted_since(marked, born=BORN, before=BEFORE) == expected
