"""Reports what a verification proved, when all its batches are settled: from what they counted, and from the ledger."""

from collections.abc import Mapping, Sequence

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.domain.runs.tiling import Tiling
from whimbrel.domain.runs.verification import CHANGES_AGAIN, LEFT, UNTOLD, Proof, UnaccountedDocuments
from whimbrel.engine.operating.follow_up_runs import with_newest_rollback
from whimbrel.engine.operating.start_verification import AGAIN
from whimbrel.engine.planning.tiling import check_more, tiling_fault
from whimbrel.engine.verifying.report_of_marks import proof_of_marks
from whimbrel.errors import RunUnknown
from whimbrel.ports import Documents, Ledger

Numbers = Mapping[str, int]
VERDICTS = ("fault", "changed since", "not proved")


def verification_report(ledger: Ledger, documents: Documents, run: Run) -> tuple[bool, str]:
    """Stores the report of a verification. Returns whether it found a fault, and a sentence for its row. Doing it twice gives the same.

    Raises RunUnknown where the verified run is gone.
    """
    old = ledger.runs.get(run.of or "")
    if old is None:
        raise RunUnknown(f"Run {run.of} is gone from the ledger: it cannot be verified any more.")
    old = with_newest_rollback(ledger, old)
    numbers = ledger.proofs.tallied(run.id)
    if idempotent(numbers) is False:
        ledger.failures.withdraw(run.id, CHANGES_AGAIN)
    marked = None if old.marking.path is None else ledger.proofs.unaccounted(old.id, run.id)
    # All that the run has counted bear their marks: the rest is newer.
    if marked is None or not marked.missing:
        ledger.failures.withdraw(run.id, LEFT, message=UNTOLD)
    not_transformed = tuple(proof for proof in run.report if proof.check == AGAIN)
    report = (
        *_ledger_proofs(ledger, run, old),
        *_document_proofs(ledger, documents, run, old, numbers, marked),
    )
    report += not_transformed or _transformed_again(numbers)
    dead = ledger.failures.counts(run.id)["dead"]
    ledger.proofs.keep(run.id, report, max(0, numbers.get("looked", 0) - dead))
    wrong, since, open_ = (
        [proof.check for proof in report if proof.verdict == verdict] for verdict in VERDICTS
    )
    sentence = (
        f"Faults of run {old.id} were found by: {', '.join(wrong)}."
        if wrong
        else f"Run {old.id} is verified."
    )
    sentence += f" Changed since by others, as was found by: {', '.join(since)}." if since else ""
    return bool(wrong), sentence + (f" Nothing was proved by: {', '.join(open_)}." if open_ else "")


def idempotent(numbers: Numbers) -> bool | None:
    """Whether the transform leaves alone what it has changed: False where it would change everything again that it was tried on.

    None where that is not known.
    """
    tried, differing = numbers.get("tried", 0), numbers.get("differing", 0)
    return None if not tried else differing < tried


def _ledger_proofs(ledger: Ledger, run: Run, old: Run) -> Sequence[Proof]:
    counts, batches, settled = ledger.proofs.summed(old.id)
    open_ = batches - settled
    settled_proof = Proof(
        "batches settled", not open_,
        f"{open_} of {batches} batches are not settled." if open_ else f"All {batches:,} batches are settled.",
        {"batches": batches, "settled": settled},
    )  # fmt: skip
    equal = counts == old.counts
    sentence = "The counts of all batches add up to those of the run."
    if not equal:
        sentence = f"The batches have counted {_outcomes(counts.changed, counts.unchanged, counts.skipped)}; the run says {_outcomes(old.counts.changed, old.counts.unchanged, old.counts.skipped)}."
    elif old.inferred:
        sentence += " Some of them were inferred after a crash, as mark='filter' leaves no evidence."
    failures = ledger.failures.counts(old.id)
    evaluated = counts.total + failures["failed"] + failures["conflict"]
    sums = Proof(
        "outcomes add up", equal, sentence,
        {"changed": counts.changed, "unchanged": counts.unchanged, "skipped": counts.skipped,
         "failed": failures["failed"], "conflict": failures["conflict"], "evaluated": evaluated},
    )  # fmt: skip
    return _ranges(ledger, old, run.checked), settled_proof, sums


def _outcomes(changed: int, unchanged: int, skipped: int) -> str:
    return f"{changed:,} changed, {unchanged:,} unchanged, {skipped:,} skipped"


def examined_everything(ledger: Ledger, run: Run, seconds: float) -> bool:
    """Continues, for about so many seconds, to check the ranges of the verified run. Returns True when all were checked."""
    old = ledger.runs.get(run.of or "")
    last = ledger.batches.last_seq(old.id) if old is not None and old.scope.kind != "ids" else 0
    checked = check_more(ledger, run.of or "", run.checked, through=last, seconds=seconds)
    if checked != run.checked:
        ledger.runs.keep_tiling(run.id, checked=checked)
    return checked.fault is not None or checked.through >= last


def _ranges(ledger: Ledger, old: Run, checked: Tiling) -> Proof:
    name = "ranges tile"
    if old.scope.kind == "ids":
        return Proof(name, None, "The run was over documents that were named: its batches have no ranges.")
    fault = tiling_fault(ledger, old, checked)
    if not fault:
        return Proof(name, True, "The batches' ranges tile the key space without gap or overlap.")
    ended_early = old.status in (RunStatus.CANCELLED, RunStatus.FAILED)
    if ended_early and fault.startswith("The batches end"):
        return Proof(name, None, f"The run is {old.status}: it ended before the whole key space was planned.")
    return Proof(name, False, fault)


def _document_proofs(
    ledger: Ledger,
    documents: Documents,
    run: Run,
    old: Run,
    numbers: Numbers,
    marked: UnaccountedDocuments | None,
) -> Sequence[Proof]:
    examined = numbers.get("looked", 0)
    if old.undone_by is not None:
        return (_taken_back(ledger, old, examined, numbers.get("left", 0)),)
    return (
        _nothing_left(
            old, examined, numbers, marked.missing if marked else 0, ledger.failures.counts(old.id)["failed"]
        ),
        proof_of_marks(ledger, documents, run, old, numbers, marked),
        _failures(numbers),
        *_images(old, numbers),
    )


def _taken_back(ledger: Ledger, old: Run, examined: int, left: int) -> Proof:
    conflicts = ledger.failures.counts(old.undone_by or "")["conflict"]
    exception = f", but for those that are listed as conflicts ({conflicts:,})" if conflicts else ""
    sentence = f"{left:,} documents still bear marks or before-images of the run, which was rolled back by run {old.undone_by}."
    if not left:
        sentence = f"The run was rolled back by run {old.undone_by}: no document bears a mark or before-image of it{exception}."
    return Proof("taken back", not left, sentence, {"looked": examined, "left": left, "conflicts": conflicts})


def _nothing_left(old: Run, examined: int, numbers: Numbers, missing: int, failed: int) -> Proof:
    name, left, newer = "nothing left", numbers.get("left", 0), numbers.get("newer", 0)
    untold, set_back = numbers.get("untold", 0), numbers.get("set back", 0)
    if not old.scope.swept or old.status in (RunStatus.CANCELLED, RunStatus.FAILED):
        left, untold = left + untold + set_back, 0
    # As many as have lost a counted mark: replaced, inserted again, or their mark was removed.
    replaced = min(missing, left + untold)
    facts = {
        "looked": examined,
        "left": left,
        "newer": newer,
        "untold": untold,
        "set back": set_back,
        "replaced": replaced,
    }
    later = f" {newer:,} came after the run's last look, and wait for the next run." if newer else ""
    if not old.scope.swept:
        return Proof(
            name,
            None,
            f"The run was over {_scope(old)} only; {left + newer:,} others match still.",
            facts,
        )
    if old.status in (RunStatus.CANCELLED, RunStatus.FAILED):
        return Proof(name, None, f"The run is {old.status}, and {left:,} documents are left.{later}", facts)
    unexplained = max(0, left - missing)
    if unexplained:
        sentence = (
            f"{unexplained:,} of {examined:,} documents are not migrated, though their ids are older than the run. "
            f"Its last look found nothing left there: they were put in or set back since. A new run would take them.{later}"
        )
        return Proof(name, None, sentence, facts, since=True)
    if replaced or set_back:
        sentence = (
            f"{replaced + set_back:,} of {examined:,} documents are not migrated any more: they were, as a majority had acknowledged, and were replaced, "
            f"put in again or set back since. A new run would take them.{later}"
        )
        return Proof(name, None, sentence, facts, since=True)
    if untold:
        return Proof(
            name,
            None,
            f"{untold:,} documents are not migrated that may have come since: their ids do not tell when.{later}",
            facts,
        )
    exception = f", but for the {failed:,} that failed" if failed else ""
    sentence = f"None of {examined:,} documents is left that the run should have taken{exception}.{later}"
    return Proof(name, True, sentence, facts)


def _scope(old: Run) -> str:
    limit = old.scope.limit or 0
    return (
        f"the first {limit:,} documents"
        if old.scope.kind == "first"
        else f"{limit:,} documents that were named"
    )


def _failures(numbers: Numbers) -> Proof:
    rows, wrong = numbers.get("failures", 0), numbers.get("failures wrong", 0)
    sentence = f"{wrong:,} of {rows:,} failure records point to a document that is not in that state."
    if not wrong:
        sentence = (
            "The one failure record points to a document in that state."
            if rows == 1
            else f"All {rows:,} failure records point to a document in that state."
            if rows
            else "There are no failure records."
        )
    if wrong:
        sentence += " What was recorded was so then: the documents were changed or deleted since."
    return Proof(
        "failures", None if wrong else True, sentence, {"records": rows, "wrong": wrong}, since=bool(wrong)
    )


def _images(old: Run, numbers: Numbers) -> Sequence[Proof]:
    if not old.undo or not numbers.get("sampled", 0):
        return ()
    since, without = numbers.get("changed since", 0), numbers.get("without image", 0)
    facts = {"restorable": numbers.get("restorable", 0), "changed since": since, "without image": without}
    sentence = f"{facts['restorable']:,} of {numbers['sampled']:,} documents can be put back as they were."
    sentence += (
        f" {since:,} were changed since by the application: a rollback would leave them." if since else ""
    )
    sentence += f" {without:,} have no before-image that can be read." if without else ""
    return (Proof("before-images", None if without else True, sentence, facts, since=bool(without)),)


def _transformed_again(numbers: Numbers) -> tuple[Proof, ...]:
    tried, differing, sampled = (numbers.get(name, 0) for name in ("tried", "differing", "sampled"))
    others = {name: numbers.get(name, 0) for name in ("not selected", "unknown change")}
    facts = {"sampled": sampled, "tried": tried, "differing": differing, **others}
    exception = (
        f" {others['not selected']:,} more are not selected by the filter any more."
        if others["not selected"]
        else ""
    )
    if others["unknown change"]:
        exception += (
            f" What the function returned for {others['unknown change']:,} can be tried only by writing it."
        )
    if deadly := numbers.get("deadly", 0):
        sentence = f"The function hangs, or kills its process, when it is called for {deadly:,} of the documents as they are now.{exception}"
        return (Proof(AGAIN, False, sentence, {**facts, "deadly": deadly}),)
    if not sampled:
        return (Proof(AGAIN, None, "No document was found that this run has changed.", facts),)
    if not tried:
        return (
            Proof(
                AGAIN,
                True,
                f"The filter selects none of {sampled:,} documents again: nothing would change.",
                facts,
            ),
        )
    if idempotent(numbers) is False:
        sentence = f"It would change each of {tried:,} documents once more, so it is not idempotent. Their marks keep it from that.{exception}"
        return (Proof(AGAIN, None, sentence, facts),)
    if differing:
        return (
            Proof(
                AGAIN,
                None,
                f"It would change {differing:,} of {tried:,} documents once more. They were changed since, or it does not always do the same: nothing tells which.{exception}",
                facts,
            ),
        )
    unknown = others["unknown change"]
    proved = None if unknown else True
    return (Proof(AGAIN, proved, f"It changes none of {tried:,} documents once more.{exception}", facts),)
