"""Decides, document by document, what becomes of it: the user's function, or one of Whimbrel's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.runs.batches import Batch
from whimbrel.ports import GuardedChange


@dataclass(frozen=True, slots=True)
class Transformed:
    """What became of documents: `done` of them were reached before the chunk's time was over."""

    guarded: list[GuardedChange]
    failures: list[FailedDocument]
    done: int


class Transform(Protocol):
    """Called with documents in their order, until the monotonic clock passes `until`: at least one of them is answered.

    `definition`: the migration's, as the run that has the batch carries it out. `attempts`: the number of the attempt for
    each document; 1 for those that are not in it.
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
