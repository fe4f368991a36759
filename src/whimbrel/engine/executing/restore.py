"""Puts a document back as it was before a run, from the before-image that it holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument, FailureKind
from whimbrel.domain.migrations.before_images import ChangedSince, Unreadable, restored_document
from whimbrel.domain.migrations.changes import Whole
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Run
from whimbrel.engine.executing.lease import Lease
from whimbrel.engine.executing.transform import Transformed
from whimbrel.ports import GuardedChange


def definition_without_code(run: Run) -> Definition:
    """Returns what a run that needs no user code has to know of its migration."""
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
        guarded: list[GuardedChange] = []
        failures: list[FailedDocument] = []
        for document in documents:
            key = Key.of_document(document)
            try:
                before = restored_document(document, definition.name, definition.version)
            except ChangedSince as error:
                message = f"The application has changed the document since: {', '.join(error.fields)}."
                failures.append(
                    FailedDocument(key=key, kind=FailureKind.CONFLICT, type="ChangedSince", message=message)
                )
            except Unreadable as error:
                failures.append(
                    FailedDocument(key=key, kind=FailureKind.DATA, type="NoImage", message=str(error))
                )
            else:
                guarded.append(GuardedChange(key, document, Whole(before)))
        self.lease.step()
        return Transformed(guarded, failures, len(documents))
