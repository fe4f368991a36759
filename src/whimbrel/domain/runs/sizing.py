"""How many documents a batch should have: as many as take a slot about 20 seconds.

A batch is what is handed over, retried and lost with a worker. Small batches cost the ledger too much; of large ones too much is repeated,
and the slots do not end together. The shape follows GitLab's optimizer of batched background migrations: measure, grow slowly, shrink at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

SHORTEST, WANTED, LONGEST = 10.0, 20.0, 30.0  # seconds of work in a batch
GROWTH = 2.0  # from one window of batches to the next, at most
SMALLEST_BATCH = 100  # documents
LARGEST_BATCH = 50_000  # documents: on two cores, a declared update has as many in about a second
FEWEST_BATCHES = 40  # of a run whose batches are larger than a few thousand: enough for all slots to end at about the same time
SMALL = 5000  # documents: a batch may always get as large as this
# Documents of a function's batches before anything is measured: one call may take a second.
FIRST_BATCH = 1000
MEASURED = 20  # batches that the next size is concluded from, at most
ENOUGH = 0.2  # seconds of work that must be measured before anything is concluded

ChunkLimit = Literal["", "planned", "time", "bytes", "rate", "share"]
"""What bounds the documents of a statement: nothing but the chunk as it was planned, its time or bytes, the run's rate or its share; "": not known."""


@dataclass(frozen=True, slots=True)
class BatchWork:
    """What a batch took its slot. `seconds`: without rests and waits. `chunk`: documents of its last statements, and what bounded them."""

    documents: int
    seconds: float
    chunk: int
    limit: ChunkLimit


@dataclass(frozen=True, slots=True)
class Sizing:
    """How a run's batches are sized, and what was measured for it.

    `measured`: whether batches get larger or smaller by what they take; not where somebody has set a size. `rate`: documents a second of one
    slot, without rests. `chunk`: documents of a statement, the median over the last batches.
    """

    measured: bool = False
    rate: float | None = None
    chunk: int | None = None
    limit: ChunkLimit = ""


def measure(sizing: Sizing, work: Sequence[BatchWork]) -> Sizing:
    """Returns the sizing with what the newest batches took, newest first; the same where that is too little to conclude anything."""
    seconds = sum(each.seconds for each in work)
    documents = sum(each.documents for each in work)
    if seconds < ENOUGH or not documents:
        return sizing
    chunk = sorted(each.chunk for each in work)[len(work) // 2]
    limit = next((each.limit for each in work if each.chunk <= chunk), work[0].limit)
    return Sizing(sizing.measured, documents / seconds, chunk, limit)


def largest_batch(documents: int, *, small: int = SMALL, largest: int = LARGEST_BATCH) -> int:
    """Returns how large the batches of a run over about so many documents may get: always as large as `small`, never larger than `largest`."""
    return max(small, min(largest, documents // FEWEST_BATCHES))


def next_batch_size(size: int, sizing: Sizing, *, largest: int, run_rate: int | None = None) -> int:
    """Returns how many documents the batches of the next window should have. Their present size where that takes 10 to 30 seconds, or is set.

    `run_rate`: documents a second that all slots together may evaluate.
    """
    if not sizing.measured or not sizing.rate:
        return size
    rate = min(sizing.rate, float(run_rate or sizing.rate))
    if SHORTEST <= size / rate <= LONGEST:
        return size
    fitting = min(rate * WANTED, size * GROWTH, float(largest))
    return _rounded(max(SMALLEST_BATCH, fitting))


def _rounded(size: float) -> int:
    """Returns a size with two digits that count: it is shown, and each change is a write."""
    step: int = 10 ** max(0, len(str(int(size))) - 2)
    return int(size) // step * step


def sizing_sentence(size: int, sizing: Sizing) -> str:
    """Returns why batches and statements have their sizes; an empty string while nothing is measured."""
    if sizing.rate is None or sizing.chunk is None:
        return ""
    batches = f"batches of {size:,}: about {_seconds(size / sizing.rate)} of work each at {sizing.rate:,.0f} documents/s a slot"
    if not sizing.measured:
        batches += ", a size that was set"
    why = {
        "time": " to take half a second",
        "bytes": " to be 8 MB",
        "rate": " to keep the rate",
        "share": " as it has a part of its speed only",
    }.get(sizing.limit, "")
    return f"{batches}; statements of up to {sizing.chunk:,}{why}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:,.0f} s"  # noqa: PLR2004  two digits that count
