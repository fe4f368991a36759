"""The dry run: shows on a sample of its documents what a run would do. Nothing is written anywhere."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from whimbrel.domain.bson.diffs import Edit, difference
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.causes import Cause, cause
from whimbrel.domain.failures.failure import FailedDocument
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.marks import CHANGED, FAILED, SKIPPED, UNCHANGED
from whimbrel.domain.runs.preflight_findings import Finding
from whimbrel.domain.runs.run import Run
from whimbrel.engine.operating.preflight import preflight
from whimbrel.engine.rehearsing.determinism import Verdict, deterministic, idempotent
from whimbrel.engine.rehearsing.prediction import Prediction, predict
from whimbrel.engine.rehearsing.rehearsal import NOT_REACHED, NOT_SHOWN, RehearsalStage, RehearsedDocument
from whimbrel.engine.rehearsing.selection import Selected, draw_sample, select
from whimbrel.errors import TooSlow
from whimbrel.ports import Ahead, Callers, Clash, Rehearsal, Store

SAMPLE, LARGEST_SAMPLE = 40, 1000  # documents
DOCUMENTS = 3  # whose differences are shown
SECONDS = 60.0  # that the rehearsal may take
OUTCOMES = (CHANGED, UNCHANGED, SKIPPED, FAILED, NOT_SHOWN, NOT_REACHED)


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedGroup:
    """Documents of the sample that failed for one cause."""

    cause: Cause
    count: int
    example: FailedDocument


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One document, before and after."""

    key: Key
    edits: tuple[Edit, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """Bytes by which documents of the sample grow, mark included. `projected`: all that are selected together."""

    mean: float
    largest: int
    largest_key: Key
    largest_document: int
    projected: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RefusedDocuments:
    """Documents of the sample that the validator would refuse. `refuses`: whether it refuses them, or only logs them."""

    keys: tuple[Key, ...]
    refuses: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectedAgain:
    """Of the changed documents of the sample, those that the migration's filter still selects. `filtered`: there is a filter."""

    still: int
    changed: int
    filtered: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class DryRun:
    """All that a dry run shows. `run` is the run that would be started; it is in no ledger."""

    run: Run
    selected: Selected
    batches: int
    sample: Mapping[str, int]  # documents by how they were chosen
    rehearsed: Sequence[RehearsedDocument]
    outcomes: Mapping[str, int]
    failures: Sequence[FailedGroup]
    not_shown: Mapping[str, int]  # reasons, and how many documents
    differences: Sequence[Difference]
    touched: frozenset[str]  # dotted paths that the change touches in the sample, without the mark
    growth: Growth | None
    validator: RefusedDocuments | None
    clashes: Sequence[Clash]
    unchecked: Sequence[str]  # what could not be checked, and why
    deterministic: Verdict
    idempotent: Verdict
    reselected: SelectedAgain
    predicted: Prediction
    warnings: Sequence[Finding]  # of preflight, which knows by then what the change touches

    @property
    def objections(self) -> bool:
        """Whether documents of the sample would fail, or break a validator or a unique index."""
        broken = self.validator is not None and self.validator.refuses and bool(self.validator.keys)
        return bool(self.failures or self.clashes or broken)


def dry_run(
    store: Store,
    definition: Definition,
    run: Run,
    callers: Callers,
    *,
    workers: int,
    size: int = SAMPLE,
    documents: int = DOCUMENTS,
    seconds: float = SECONDS,
) -> DryRun:
    """Rehearses a run that `draft_run` made, on `size` documents, for at most about so many seconds.

    `documents`: how many differences are shown; `workers`: processes that are to carry the run out. Raises DefinitionInvalid, Transient, Systemic.
    """
    until = time.monotonic() + seconds
    rehearsal = store.rehearsal(run)
    unchecked: list[str] = []
    chosen, phases = draw_sample(rehearsal, run, size, unchecked)
    rehearsed = RehearsalStage(definition, run, rehearsal, callers).rehearse([*phases.items()], until)
    selected = select(store, run, rehearsal)
    changed = [document for document in rehearsed if document.after is not None]
    inner = [difference(document.before, document.changed or document.before) for document in changed]
    touched, growth = _touched(inner), _growth(changed, selected.estimated)
    predicted = predict(store.ledger, run, rehearsed, documents=selected.estimated, workers=workers)
    ahead = Ahead(
        documents=selected.estimated, touched=touched or None, growth=growth.largest if growth else None,
        mean_growth=growth.mean if growth else None, oplog=round(predicted.oplog.value) if predicted.oplog else None,
        naive=tuple(dict.fromkeys(name for document in rehearsed for name in document.naive)), unusable=_unusable_answer(rehearsed), differing_values=next((document.differing_values for document in rehearsed if document.differing_values), ()),
    )  # fmt: skip
    return DryRun(
        run=run, selected=selected, batches=ceil(selected.estimated / run.batch_size), sample=chosen, rehearsed=rehearsed,
        outcomes=_outcomes(rehearsed), failures=_failures(rehearsed), not_shown=Counter(document.why for document in rehearsed if document.why),
        differences=_differences(changed, documents), touched=touched,
        growth=growth, validator=_refusals(rehearsal, changed, unchecked),
        clashes=_clashes(rehearsal, changed, {edit.top for edits in inner for edit in edits}, unchecked), unchecked=unchecked,
        deterministic=deterministic(definition, rehearsed), idempotent=idempotent(run, rehearsed),
        reselected=_reselected(rehearsal, run, rehearsed),
        predicted=predicted, warnings=preflight(store, definition, run, ahead),
    )  # fmt: skip


def _unusable_answer(rehearsed: Sequence[RehearsedDocument]) -> str:
    """Returns what is wrong with the function's answer, where it is wrong for every document by a mistake that no retry fixes."""
    reached = [document.failure for document in rehearsed if document.outcome not in (NOT_SHOWN, NOT_REACHED)]
    final = [failure.message for failure in reached if failure is not None and failure.final]
    return final[0] if final and len(final) == len(reached) else ""


def _outcomes(rehearsed: Sequence[RehearsedDocument]) -> dict[str, int]:
    counted = Counter(document.outcome for document in rehearsed)
    return {outcome: counted[outcome] for outcome in OUTCOMES}


def _failures(rehearsed: Sequence[RehearsedDocument]) -> list[FailedGroup]:
    groups: dict[Cause, list[FailedDocument]] = {}
    for document in rehearsed:
        if document.failure is not None:
            groups.setdefault(cause(document.failure), []).append(document.failure)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    return [
        FailedGroup(cause=group_cause, count=len(group), example=group[0]) for group_cause, group in ordered
    ]


def _differences(changed: Sequence[RehearsedDocument], limit: int) -> list[Difference]:
    """Takes documents that differ in other places first: they show more."""
    shapes: dict[object, list[Difference]] = {}
    for document in changed:
        edits = tuple(difference(document.before, document.after or document.before))
        if document.outcome == CHANGED:
            shape = frozenset((edit.kind, edit.path) for edit in edits)
            shapes.setdefault(shape, []).append(Difference(key=document.key, edits=edits))
    rounds = max(map(len, shapes.values()), default=0)
    return [
        group[position] for position in range(rounds) for group in shapes.values() if position < len(group)
    ][:limit]


def _touched(inner: Sequence[Sequence[Edit]]) -> frozenset[str]:
    return frozenset(".".join(_names(edit)) for edits in inner for edit in edits if edit.path)


def _names(edit: Edit) -> Iterator[str]:
    """Yields the path down to the first array."""
    for part in edit.path:
        if isinstance(part, int):
            return
        yield part


def _growth(changed: Sequence[RehearsedDocument], total: int) -> Growth | None:
    sizes = [(len(document.after or b"") - len(document.before), document.key) for document in changed]
    if not sizes:
        return None
    mean = sum(size for size, _ in sizes) / len(sizes)
    largest, key = max(sizes, key=lambda pair: pair[0])
    return Growth(
        mean=mean, largest=largest, largest_key=key, projected=round(mean * total),
        largest_document=max(len(document.after or b"") for document in changed),
    )  # fmt: skip


def _refusals(
    rehearsal: Rehearsal, changed: Sequence[RehearsedDocument], unchecked: list[str]
) -> RefusedDocuments | None:
    validator = rehearsal.validator()
    if validator is None:
        return None
    try:
        valid = rehearsal.satisfying(validator.query, [document.after or b"" for document in changed])
        broken = [document for document in changed if document.key not in valid]
        if not validator.strict:
            before = rehearsal.satisfying(validator.query, [document.before for document in broken])
            broken = [document for document in broken if document.key in before]
    except TooSlow:
        unchecked.append("the validator did not answer in time")
        return None
    return RefusedDocuments(keys=tuple(document.key for document in broken), refuses=validator.refuses)


def _clashes(
    rehearsal: Rehearsal, changed: Sequence[RehearsedDocument], tops: set[str | None], unchecked: list[str]
) -> list[Clash]:
    all_clashes: list[Clash] = []
    for index in rehearsal.unique_indexes():
        if not tops & {name.partition(".")[0] for name in index.fields}:
            continue
        try:
            clashes = rehearsal.clashes(index, [document.after or b"" for document in changed])
        except TooSlow:
            unchecked.append(f"the unique index {index.name} did not answer in time")
            continue
        if clashes is None:
            unchecked.append(f"the unique index {index.name} holds arrays, which are not looked at")
        all_clashes += clashes or ()
    return all_clashes


def _reselected(rehearsal: Rehearsal, run: Run, rehearsed: Sequence[RehearsedDocument]) -> SelectedAgain:
    after = [
        document.after for document in rehearsed if document.outcome == CHANGED and document.after is not None
    ]
    still_selected = rehearsal.satisfying(run.query, after)
    return SelectedAgain(still=len(still_selected), changed=len(after), filtered=bool(run.query))
