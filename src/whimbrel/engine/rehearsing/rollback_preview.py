"""Shows what a rollback would do before there is one: how many documents it would put back, and how many it would leave alone, and why."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.migrations.before_images import ChangedSince, Unreadable, restored_document
from whimbrel.domain.runs.batches import Range
from whimbrel.domain.runs.run import Run, eligible
from whimbrel.engine.operating.start import Defaults
from whimbrel.engine.operating.start_rollback import draft_rollback
from whimbrel.errors import TooSlow
from whimbrel.ports import Documents, Store
from whimbrel.ports.survey import Query

LOOKING = 3.0  # seconds that looking at all documents may take
SLICE = 1000  # documents that are looked at in one go
SAMPLED = 500  # documents of a random sample, where there are too many to look at all of them
SAMPLE_BYTES = 48 * 1024 * 1024
REASONS = 20  # that are told apart; the rest is told together
UNREADABLE = "its before-image cannot be read"
OTHERS = "other fields of it have changed since"


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """Documents that a rollback would leave as they are for one reason. `example`: one of them."""

    reason: str
    documents: int
    example: Key


@dataclass(frozen=True, slots=True)
class RollbackPreview:
    """`holders`: documents that hold a before-image of the run. Of these, `examined` were looked at, and `left` would be left alone.

    `exact`: all were looked at; else `holders` is an estimate, and what was examined a random sample.
    """

    run: Run
    holders: int
    exact: bool
    examined: int
    left: int
    reasons: tuple[LeftAlone, ...]

    @property
    def left_in_all(self) -> int:
        """Documents that would be left alone: about, where not all were looked at."""
        return (
            self.left if self.exact or not self.examined else round(self.holders * self.left / self.examined)
        )


def preview_rollback(
    store: Store, run_id: str, *, new_collection: bool = False, seconds: float = LOOKING
) -> RollbackPreview:
    """Looks at the documents that hold a before-image of a run, at all of them where that takes no longer than so many seconds. Nothing is written.

    Raises RunUnknown, StateForbids, CollectionReplaced as starting the rollback would.
    """
    old, run = draft_rollback(store, run_id, Defaults(), new_collection=new_collection)
    documents, query = store.session().documents(run), eligible(run, "pending")
    looked = _Looked(old)
    try:
        if looked.at_all(documents, query, time.monotonic() + seconds):
            return looked.preview(looked.examined, exact=True)
    except TooSlow:
        pass  # one slice takes too long: a sample tells what it can
    holders, _, exact = documents.weigh(query, (), seconds)
    sampled = _Looked(old)
    for document in store.rehearsal(run).sample("random", query, _affordable(old)):
        sampled.at(document)
    best = sampled if sampled.examined else looked
    return best.preview(max(holders, best.examined), exact=exact and best.examined == holders)


def _affordable(run: Run) -> int:
    return max(1, min(SAMPLED, SAMPLE_BYTES // (run.document_bytes or SLICE)))


class _Looked:
    """What was seen of documents, one after the other."""

    def __init__(self, old: Run) -> None:
        self._old, self.examined = old, 0
        self._reasons: dict[str, LeftAlone] = {}

    def at_all(self, documents: Documents, query: Query, until: float) -> bool:
        """Looks at all documents. Returns False where the time is over before the last one."""
        for where in documents.survey(SLICE).slices({}):
            if time.monotonic() > until:
                return False
            for document in _holders(documents, where, query):
                self.at(document)
        return True

    def at(self, document: bytes) -> None:
        self.examined += 1
        try:
            restored_document(document, self._old.migration, self._old.version)
        except ChangedSince as error:
            self._note(f"changed since: {', '.join(error.fields)}", document)
        except Unreadable:
            self._note(UNREADABLE, document)

    def _note(self, reason: str, document: bytes) -> None:
        if reason not in self._reasons and len(self._reasons) >= REASONS:
            reason = OTHERS
        known = self._reasons.get(reason) or LeftAlone(reason, 0, Key.of_document(document))
        self._reasons[reason] = LeftAlone(reason, known.documents + 1, known.example)

    def preview(self, holders: int, *, exact: bool) -> RollbackPreview:
        reasons = sorted(self._reasons.values(), key=lambda each: -each.documents)
        left = sum(reason.documents for reason in reasons)
        return RollbackPreview(self._old, holders, exact, self.examined, left, tuple(reasons))


def _holders(documents: Documents, where: Range, query: Query) -> Iterator[bytes]:
    """Yields the documents of a slice, which may come in several answers of 16 MB."""
    while True:
        page = documents.read(where, query, SLICE + 1)
        yield from page.documents
        if page.end or not page.documents:
            return
        where = Range(Key.of_document(page.documents[-1]), where.hi)
