"""Converts between histograms of chunks and their rows, which MongoDB can add up."""

from collections.abc import Mapping
from typing import Any

from whimbrel.domain.runs.chunk_times import BOUNDS, ChunkTimes


def chunk_times_row(times: ChunkTimes) -> dict[str, float]:
    """Returns the row of a histogram: by the place of each class, so that it can be added to another."""
    return {**{str(place): number for place, number in enumerate(times.numbers)}, "seconds": times.seconds}


def chunk_times_of(row: Mapping[str, Any] | None) -> ChunkTimes:
    if row is None:
        return ChunkTimes()
    return ChunkTimes(tuple(row.get(str(place), 0) for place in range(len(BOUNDS))), row.get("seconds", 0.0))
