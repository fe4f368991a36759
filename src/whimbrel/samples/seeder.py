"""Generates sample documents while they are inserted, so that memory does not grow with their number."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

Status = Literal["mixed", "pending", "processing", "success", "failed"]
STATUSES = ("pending", "processing", "success", "failed")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def documents(
    count: int, *, status: Status = "pending", invalid: float = 0.0, seed: int = 1
) -> Iterator[dict[str, Any]]:
    """Yields `count` sample documents, the same for the same seed.

    `invalid` (0 to 1) is the share of documents whose `data` is not an object: the sample migration cannot migrate those.
    """
    draw = random.Random(seed).random  # noqa: S311  sample data
    for number in range(count):
        created_at = EPOCH + timedelta(seconds=number % 8_640_000)
        score, level = int(draw() * 1000), int(draw() * 10) + 1  # many times faster than randrange
        yield {
            "name": f"Sample {number}",
            "email": f"sample{number}@example.com",
            "status": STATUSES[int(draw() * len(STATUSES))] if status == "mixed" else status,
            "data": {"score": score, "level": level} if draw() >= invalid else f"{score}/{level}",
            "createdAt": created_at,
            "updatedAt": created_at,
        }
