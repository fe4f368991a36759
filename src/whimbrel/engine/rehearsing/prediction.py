"""How long a run will take and what it will write to the oplog: a guess, told with what it rests on."""

from collections.abc import Sequence
from dataclasses import dataclass

from whimbrel.domain.bson.diffs import difference
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.run_view import view
from whimbrel.engine.rehearsing.rehearsal import RehearsedDocument
from whimbrel.ports import Ledger

# Documents a second of docs/benchmarks.md, on two cores.
DECLARATIVE, FUNCTION = 48_906, 25_759
ENTRY = 170  # bytes of an oplog entry of an update besides namespace, `_id`, names and values: measured with MongoDB 6.0.5
LOOKED_THROUGH = 30  # runs of the migration, newest first, of all kinds
TELLING = 100  # documents that an earlier run must have evaluated to tell anything


@dataclass(frozen=True, slots=True)
class PredictedRange:
    """`basis`: what it was taken from, in a sentence."""

    value: float
    basis: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """`seconds` of the run; `oplog`: bytes. None: nothing is known to predict it from."""

    seconds: PredictedRange
    oplog: PredictedRange | None


def predict(
    ledger: Ledger, run: Run, found: Sequence[RehearsedDocument], *, documents: int, workers: int
) -> Prediction:
    """For so many documents, carried out by so many worker processes."""
    return Prediction(_seconds(ledger, run, found, documents, workers), _oplog(run, found, documents))


def _seconds(
    ledger: Ledger, run: Run, found: Sequence[RehearsedDocument], documents: int, workers: int
) -> PredictedRange:
    guess = _last(ledger, run, documents) or _measured(run, found, documents, workers)
    if run.rate and documents / run.rate > guess.value:
        return PredictedRange(documents / run.rate, f"its rate of {run.rate:,} documents/s")
    return guess


def _last(ledger: Ledger, run: Run, documents: int) -> PredictedRange | None:
    """The newest run of this migration that ended and evaluated enough, before-images kept as this one keeps them."""
    ended = [RunStatus.COMPLETED, RunStatus.COMPLETED_WITH_FAILURES]
    for each in ledger.runs.list(statuses=ended, migration=run.migration, limit=LOOKED_THROUGH):
        if _alike(each) != _alike(run):
            continue
        seen = view(ledger, each)
        if seen.processed >= TELLING and seen.seconds:
            speed = seen.processed / seen.seconds
            return PredictedRange(
                documents / speed,
                f"the last run of this migration, {each.id}: {seen.processed:,} documents at {speed:,.0f}/s",
            )
    return None


def _alike(run: Run) -> tuple[object, ...]:
    """What two runs must have in common for the one to tell how long the other takes."""
    return run.kind, run.ns, run.undo, run.code_hash


def _measured(run: Run, found: Sequence[RehearsedDocument], documents: int, workers: int) -> PredictedRange:
    if run.declarative:
        return PredictedRange(
            documents / DECLARATIVE,
            f"{DECLARATIVE:,} documents/s, the figure of docs/benchmarks.md for small documents on two cores",
        )
    calls = [each.seconds for each in found if each.seconds]
    mean = sum(calls) / len(calls) if calls else 0.0
    return PredictedRange(
        documents * (1 / FUNCTION + mean / workers),
        f"{mean * 1000:.2f} ms a call, measured on the sample, in {workers} worker processes, and {FUNCTION:,} documents/s "
        "for reading and writing, the figure of docs/benchmarks.md for small documents on two cores",
    )


def _oplog(run: Run, found: Sequence[RehearsedDocument], documents: int) -> PredictedRange | None:
    """MongoDB logs of an update what differs: names, and new values."""
    sizes = [
        ENTRY + len(run.ns) + len(each.key.payload) + _logged(each.before, each.after)
        if each.after != each.before
        else 0
        for each in found
        if each.after is not None
    ]
    if not sizes:
        return None
    mean = sum(sizes) / len(sizes)
    return PredictedRange(
        mean * documents,
        f"{mean:,.0f} bytes a document, from what differs in {len(sizes)} documents of the sample and {ENTRY} bytes around it",
    )


def _logged(before: bytes, after: bytes | None) -> int:
    return sum(
        sum(len(str(part)) + 4 for part in edit.path) + (len(edit.new[1]) if edit.new else 0)
        for edit in difference(before, after or before)
    )
