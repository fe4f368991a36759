"""Putting a document back as it was before a run, from the before-image that it holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from whimbrel.domain.batches import Batch
from whimbrel.domain.changes import Whole
from whimbrel.domain.failures import Kind, Trouble
from whimbrel.domain.images import Changed, Unreadable, restored
from whimbrel.domain.migration import Definition
from whimbrel.domain.raw import Key
from whimbrel.domain.runs import Run
from whimbrel.engine.lease import Lease
from whimbrel.engine.transform import Transformed
from whimbrel.ports import Guarded


def definition(run: Run) -> Definition:
    """What executing a run that needs no user code needs to know of its migration."""
    return Definition(
        name=run.migration, version=run.version, database=run.database, collection=run.collection, mark="filter",
        timeout=run.timeout, code_hash=run.code_hash,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Restore:
    """The `Transform` that puts documents back as they were."""

    lease: Lease

    def __call__(
        self,
        definition: Definition,
        batch: Batch,  # noqa: ARG002
        documents: Sequence[bytes],
        attempts: Mapping[Key, int],  # noqa: ARG002
        *,
        until: float,  # noqa: ARG002
    ) -> Transformed:
        guarded: list[Guarded] = []
        troubles: list[Trouble] = []
        for document in documents:
            key = Key.of_document(document)
            try:
                before = restored(document, definition.name, definition.version)
            except Changed as error:
                message = f"The application has changed the document since: {', '.join(error.fields)}."
                troubles.append(Trouble(key=key, kind=Kind.CONFLICT, type="ChangedSince", message=message))
            except Unreadable as error:
                troubles.append(Trouble(key=key, kind=Kind.DATA, type="NoImage", message=str(error)))
            else:
                guarded.append(Guarded(key, document, Whole(before)))
        self.lease.step()
        return Transformed(guarded, troubles, len(documents))
