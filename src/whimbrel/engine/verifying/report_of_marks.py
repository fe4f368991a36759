"""Reports what the marks in documents prove of a run, compared with what its batches had counted when they settled, as a majority acknowledged."""

from collections.abc import Mapping

from whimbrel.domain.migrations.marks import read_stamp
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.verification import Proof, UnaccountedDocuments
from whimbrel.ports import Documents, Ledger

SENTENCES = {
    "unknown": "{:,} documents bear a mark that names no batch of the ledger.",
    "outside": "{:,} bear the mark of a batch whose range does not hold them: their _id was changed since, or they are copies.",
    "unfinished": "{:,} are marked as being in the function's hands.",
    "missing": "{:,} that were counted, as a majority had acknowledged, bear no such mark any more: it was removed or overwritten, or the document deleted, since.",
    "surplus": "{:,} bear a mark that was not counted.",
    "strayed": "{:,} bear the mark of a retry that they were not given to: their _id was changed since, or they are copies.",
}
COUNTED = ("unknown", "outside", "unfinished", "marked since", "marked untold")  # by the batches
NAMED = 100  # batches of named documents read at once


def proof_of_marks(
    ledger: Ledger,
    documents: Documents,
    run: Run,
    old: Run,
    numbers: Mapping[str, int],
    unaccounted: UnaccountedDocuments | None,
) -> Proof:
    """Returns the proof. `unaccounted`: None where the run has left no marks. `numbers`: what the verification's batches have counted."""
    name = "marks"
    if unaccounted is None:
        return Proof(
            name,
            None,
            "Under mark='filter' documents bear none: the ledger's counts cannot be compared with them.",
        )
    facts = {name: numbers.get(name, 0) for name in COUNTED}
    facts |= {
        "missing": unaccounted.missing,
        "surplus": unaccounted.surplus,
        "strayed": _strayed(ledger, documents, run, old),
    }
    sentences = [
        SENTENCES[name].format(number) for name, number in facts.items() if number and name in SENTENCES
    ]
    if sentences:
        where = f" Look at the batches {', '.join(unaccounted.examples)}." if unaccounted.examples else ""
        wrong, since = _verdict(facts)
        return Proof(name, False if wrong else None, " ".join(sentences) + where, facts, since=since)
    return Proof(
        name,
        True,
        "The documents bear exactly the marks that each batch has counted, inside its range.",
        facts,
    )


def _verdict(facts: Mapping[str, int]) -> tuple[bool, bool]:
    """Returns whether marks are a fault of the run, and else whether others have changed them since. Neither: that is not known.

    A document that bears another mark than was counted is missing where it was counted. A mark that names no batch is not
    Whimbrel's writing here. A mark outside its batch's range was written inside it. Any other mark that was not counted is a
    copy, where the document's id is younger than the run's last look, or may be one, where its id does not tell.
    """
    moved = facts["outside"] + facts["strayed"]
    excess = max(0, facts["surplus"] - max(facts["marked since"], moved))
    wrong = facts["unfinished"] > facts["missing"] or excess > facts["marked untold"]
    explained = facts["missing"] or moved or facts["unknown"] or facts["surplus"] > excess
    return wrong, not wrong and bool(explained)


def _strayed(ledger: Ledger, documents: Documents, run: Run, old: Run) -> int:
    """Counts documents that bear the mark of a batch of ids, and are not among these ids."""
    strayed, seq = 0, 0
    while page := ledger.batches.named(old.id, after=seq, limit=NAMED):
        for batch in page:
            if batch.ids:
                strayed += ledger.proofs.marked(run.id, batch.token) - _bearing_count(documents, old, batch)
        seq = page[-1].seq
    return strayed


def _bearing_count(documents: Documents, old: Run, batch: Batch) -> int:
    ids, bearing = batch.ids or (), 0
    for start in range(0, len(ids), 1000):
        tokens = documents.tokens(ids[start : start + 1000], old.marking.path or "")
        bearing += sum(read_stamp(str(token))[0] == batch.token for token in tokens.values())
    return bearing
