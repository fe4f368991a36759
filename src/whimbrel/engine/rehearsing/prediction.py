"""Predicts how long a run will take and what it will write to the oplog: a guess, with what it is based on."""

from collections.abc import Sequence
from dataclasses import dataclass

from whimbrel.domain.bson.diffs import difference
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.run_view import view
from whimbrel.engine.rehearsing.rehearsal import RehearsedDocument
from whimbrel.ports import Ledger

# Documents a second from docs/benchmarks.md, on two cores.
DECLARATIVE, FUNCTION = 48_906, 25_759
ENTRY = 170  # bytes of an oplog entry of an update besides namespace, `_id`, names and values: measured with MongoDB 6.0.5
LOOKED_THROUGH = 30  # newest runs of the migration, of all kinds
ENOUGH = 100  # documents that an earlier run must have evaluated to be a basis


@dataclass(frozen=True, slots=True)
class PredictedRange:
    """A predicted number. `basis`: the sentence that tells what it was taken from."""

    value: float
    basis: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """`seconds` of the run; `oplog`: bytes. None: there is nothing to predict it from."""

    seconds: PredictedRange
    oplog: PredictedRange | None


def predict(
    ledger: Ledger, run: Run, rehearsed: Sequence[RehearsedDocument], *, documents: int, workers: int
) -> Prediction:
    """Predicts for so many documents and so many worker processes."""
    return Prediction(_seconds(ledger, run, rehearsed, documents, workers), _oplog(run, rehearsed, documents))


def _seconds(
    ledger: Ledger, run: Run, rehearsed: Sequence[RehearsedDocument], documents: int, workers: int
) -> PredictedRange:
    guess = _from_last_run(ledger, run, documents) or _from_sample(run, rehearsed, documents, workers)
    if run.rate and documents / run.rate > guess.value:
        return PredictedRange(documents / run.rate, f"its rate of {run.rate:,} documents/s")
    return guess


def _from_last_run(ledger: Ledger, run: Run, documents: int) -> PredictedRange | None:
    """Predicts from the newest run of this migration that ended, evaluated enough, and kept before-images as this one does."""
    ended = [RunStatus.COMPLETED, RunStatus.COMPLETED_WITH_FAILURES]
    for earlier in ledger.runs.list(statuses=ended, migration=run.migration, limit=LOOKED_THROUGH):
        if _comparable_by(earlier) != _comparable_by(run):
            continue
        outcome = view(ledger, earlier)
        if outcome.processed >= ENOUGH and outcome.seconds:
            speed = outcome.processed / outcome.seconds
            return PredictedRange(
                documents / speed,
                f"the last run of this migration, {earlier.id}: {outcome.processed:,} documents at {speed:,.0f}/s",
            )
    return None


def _comparable_by(run: Run) -> tuple[object, ...]:
    """Returns what two runs must have in common for one to predict how long the other takes."""
    return run.kind, run.ns, run.undo, run.code_hash


def _from_sample(
    run: Run, rehearsed: Sequence[RehearsedDocument], documents: int, workers: int
) -> PredictedRange:
    if run.declarative:
        return PredictedRange(
            documents / DECLARATIVE,
            f"{DECLARATIVE:,} documents/s, the figure of docs/benchmarks.md for small documents on two cores",
        )
    calls = [document.seconds for document in rehearsed if document.seconds]
    mean = sum(calls) / len(calls) if calls else 0.0
    return PredictedRange(
        documents * (1 / FUNCTION + mean / workers),
        f"{mean * 1000:.2f} ms a call, measured on the sample, in {workers} worker processes, and {FUNCTION:,} documents/s "
        "for reading and writing, the figure of docs/benchmarks.md for small documents on two cores",
    )


def _oplog(run: Run, rehearsed: Sequence[RehearsedDocument], documents: int) -> PredictedRange | None:
    """Predicts bytes of oplog: MongoDB logs what an update changes, names and new values."""
    sizes = [
        ENTRY + len(run.ns) + len(document.key.payload) + _logged_bytes(document.before, document.after)
        if document.after != document.before
        else 0
        for document in rehearsed
        if document.after is not None
    ]
    if not sizes:
        return None
    mean = sum(sizes) / len(sizes)
    return PredictedRange(
        mean * documents,
        f"{mean:,.0f} bytes a document, from what differs in {len(sizes)} documents of the sample and {ENTRY} bytes around it",
    )


def _logged_bytes(before: bytes, after: bytes | None) -> int:
    return sum(
        sum(len(str(part)) + 4 for part in edit.path) + (len(edit.new[1]) if edit.new else 0)
        for edit in difference(before, after or before)
    )
