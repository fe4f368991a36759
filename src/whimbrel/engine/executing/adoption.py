"""The phase processing: takes over documents that bear the token of a batch which nobody works on (hole H23)."""

from collections import Counter

from whimbrel.domain.migrations.filters import all_of
from whimbrel.domain.runs.batches import Piece
from whimbrel.domain.runs.run import in_status
from whimbrel.engine.executing.eligibility import BatchSelection
from whimbrel.ports import Batches, Documents


def adopt_documents(documents: Documents, batches: Batches, selection: BatchSelection, piece: Piece) -> bool:
    """Lets a selection take those documents of a piece that may be adopted. Returns whether there are any."""
    run, batch, tally = selection.lease.run, selection.lease.batch, selection.tally
    path, field = run.marking.path or "", run.status_field
    statuses = ["processing"] if tally.left is None else ["failed", "pending", "processing"]
    query = all_of(run.query, in_status(run, *statuses))
    holders = documents.holders(piece, query, field, path)
    if tally.left is not None:
        tally.left = Counter()
        for (status, _), number in holders.items():
            tally.left[status] += number
    tokens = [token for status, token in holders if status == "processing" and token is not None]
    known, live = batches.live([token.partition("/")[0] for token in tokens]) if tokens else (set(), set())
    live -= {batch.token}
    if run.adopt == "all":
        held_tokens = [token for token in tokens if token.partition("/")[0] in live]
        selection.tokens = {path: {"$nin": held_tokens}} if held_tokens else {}
        return any(status == "processing" for status, _ in holders)
    adoptable_tokens = [token for token in tokens if token.partition("/")[0] in known - live]
    selection.tokens = {path: {"$in": adoptable_tokens}}
    return bool(adoptable_tokens)
