"""What a run asks, document by document, about what shall become of it: the user's function, or one of Whimbrel's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument
from whimbrel.domain.migrations.migration import Definition
from whimbrel.domain.runs.batches import Batch
from whimbrel.ports import GuardedChange


@dataclass(frozen=True, slots=True)
class Transformed:
    """What became of documents: `done` of those given were reached before the chunk's time was over."""

    guarded: list[GuardedChange]
    troubles: list[FailedDocument]
    done: int


class Transform(Protocol):
    """Asked for documents in their order, until the monotonic clock passes `until`: one is answered for at least.

    `definition`: the migration's, as the run that has the batch carries it out. `attempts`: the how-manieth try that is of
    each document; the first of those that are not in it.
    """

    def __call__(
        self,
        definition: Definition,
        batch: Batch,
        documents: Sequence[bytes],
        attempts: Mapping[Key, int],
        *,
        until: float,
    ) -> Transformed: ...
