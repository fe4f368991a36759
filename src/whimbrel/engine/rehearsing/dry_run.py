"""The dry run: what a run would do, shown on a sample of its documents. Nothing is written anywhere."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from whimbrel.domain.bson.diffs import Edit, difference
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.causes import Cause, cause
from whimbrel.domain.failures.failure import FailedDocument
from whimbrel.domain.migrations.marks import CHANGED, FAILED, SKIPPED, UNCHANGED
from whimbrel.domain.migrations.migration import Definition
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
DOCUMENTS = 3  # of which the differences are shown
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
    """Documents of the sample that the validator would refuse. `refuses`: it does not only log them."""

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
    """All that is shown. `run` is the one that would be started; it is in no ledger."""

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
    unchecked: Sequence[str]  # what could not be looked at, and why
    deterministic: Verdict
    idempotent: Verdict
    reselected: SelectedAgain
    predicted: Prediction
    warnings: Sequence[Finding]  # of preflight, which knows by now what the change touches

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
    """Rehearse a run that `draft_run` made, on `size` documents, for at most about so many seconds.

    `documents`: of how many the differences are told; `workers`: processes that shall carry the run out. Raises DefinitionInvalid, Transient, Systemic.
    """
    until = time.monotonic() + seconds
    rehearsal = store.rehearsal(run)
    unchecked: list[str] = []
    chosen, phases = draw_sample(rehearsal, run, size, unchecked)
    found = RehearsalStage(definition, run, rehearsal, callers).rehearse([*phases.items()], until)
    selected = select(store, run, rehearsal)
    changed = [each for each in found if each.after is not None]
    inner = [difference(each.before, each.changed or each.before) for each in changed]
    touched, growth = _touched(inner), _growth(changed, selected.estimated)
    predicted = predict(store.ledger, run, found, documents=selected.estimated, workers=workers)
    ahead = Ahead(
        documents=selected.estimated, touched=touched or None, growth=growth.largest if growth else None,
        mean_growth=growth.mean if growth else None, oplog=round(predicted.oplog.value) if predicted.oplog else None,
        naive=tuple(dict.fromkeys(name for each in found for name in each.naive)), unusable=_unusable(found), differing_values=next((each.differing_values for each in found if each.differing_values), ()),
    )  # fmt: skip
    return DryRun(
        run=run, selected=selected, batches=ceil(selected.estimated / run.batch_size), sample=chosen, rehearsed=found,
        outcomes=_outcomes(found), failures=_failures(found), not_shown=Counter(each.why for each in found if each.why),
        differences=_differences(changed, documents), touched=touched,
        growth=growth, validator=_refusals(rehearsal, changed, unchecked),
        clashes=_clashes(rehearsal, changed, {edit.top for edits in inner for edit in edits}, unchecked), unchecked=unchecked,
        deterministic=deterministic(definition, found), idempotent=idempotent(run, found),
        reselected=_reselected(rehearsal, run, found),
        predicted=predicted, warnings=preflight(store, definition, run, ahead),
    )  # fmt: skip


def _unusable(found: Sequence[RehearsedDocument]) -> str:
    """What is wrong with the function's answer, where it is for every document by a mistake that no retry mends."""
    reached = [each.trouble for each in found if each.outcome not in (NOT_SHOWN, NOT_REACHED)]
    final = [each.message for each in reached if each is not None and each.final]
    return final[0] if final and len(final) == len(reached) else ""


def _outcomes(found: Sequence[RehearsedDocument]) -> dict[str, int]:
    counted = Counter(each.outcome for each in found)
    return {outcome: counted[outcome] for outcome in OUTCOMES}


def _failures(found: Sequence[RehearsedDocument]) -> list[FailedGroup]:
    groups: dict[Cause, list[FailedDocument]] = {}
    for each in found:
        if each.trouble is not None:
            groups.setdefault(cause(each.trouble), []).append(each.trouble)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    return [FailedGroup(cause=it, count=len(group), example=group[0]) for it, group in ordered]


def _differences(changed: Sequence[RehearsedDocument], most: int) -> list[Difference]:
    """Documents that differ in other places first: they show more."""
    shapes: dict[object, list[Difference]] = {}
    for each in changed:
        edits = tuple(difference(each.before, each.after or each.before))
        if each.outcome == CHANGED:
            shape = frozenset((edit.kind, edit.path) for edit in edits)
            shapes.setdefault(shape, []).append(Difference(key=each.key, edits=edits))
    rounds = max(map(len, shapes.values()), default=0)
    return [group[at] for at in range(rounds) for group in shapes.values() if at < len(group)][:most]


def _touched(inner: Sequence[Sequence[Edit]]) -> frozenset[str]:
    return frozenset(".".join(_names(edit)) for edits in inner for edit in edits if edit.path)


def _names(edit: Edit) -> Iterator[str]:
    """The path down to the first array."""
    for part in edit.path:
        if isinstance(part, int):
            return
        yield part


def _growth(changed: Sequence[RehearsedDocument], total: int) -> Growth | None:
    sizes = [(len(each.after or b"") - len(each.before), each.key) for each in changed]
    if not sizes:
        return None
    mean = sum(size for size, _ in sizes) / len(sizes)
    largest, key = max(sizes, key=lambda pair: pair[0])
    return Growth(
        mean=mean, largest=largest, largest_key=key, projected=round(mean * total),
        largest_document=max(len(each.after or b"") for each in changed),
    )  # fmt: skip


def _refusals(
    rehearsal: Rehearsal, changed: Sequence[RehearsedDocument], unchecked: list[str]
) -> RefusedDocuments | None:
    validator = rehearsal.validator()
    if validator is None:
        return None
    try:
        valid = rehearsal.satisfying(validator.query, [each.after or b"" for each in changed])
        broken = [each for each in changed if each.key not in valid]
        if not validator.strict:
            before = rehearsal.satisfying(validator.query, [each.before for each in broken])
            broken = [each for each in broken if each.key in before]
    except TooSlow:
        unchecked.append("the validator did not answer in time")
        return None
    return RefusedDocuments(keys=tuple(each.key for each in broken), refuses=validator.refuses)


def _clashes(
    rehearsal: Rehearsal, changed: Sequence[RehearsedDocument], tops: set[str | None], unchecked: list[str]
) -> list[Clash]:
    found: list[Clash] = []
    for index in rehearsal.unique_indexes():
        if not tops & {name.partition(".")[0] for name in index.fields}:
            continue
        try:
            clashes = rehearsal.clashes(index, [each.after or b"" for each in changed])
        except TooSlow:
            unchecked.append(f"the unique index {index.name} did not answer in time")
            continue
        if clashes is None:
            unchecked.append(f"the unique index {index.name} holds arrays, which are not looked at")
        found += clashes or ()
    return found


def _reselected(rehearsal: Rehearsal, run: Run, found: Sequence[RehearsedDocument]) -> SelectedAgain:
    after = [each.after for each in found if each.outcome == CHANGED and each.after is not None]
    still = rehearsal.satisfying(run.query, after)
    return SelectedAgain(still=len(still), changed=len(after), filtered=bool(run.query))
