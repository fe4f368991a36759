"""Tries a function before its run starts: a mistake that no retry fixes is reported at once, not by a failure for each document."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from whimbrel.domain.failures.failure import FailedDocument
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.runs.preflight_findings import refuse, refuse_all
from whimbrel.domain.runs.run import Run, query_of_first_phases
from whimbrel.engine.operating.preflight import (
    differing_values,
    process_value_findings,
    unusable_answer_findings,
)
from whimbrel.engine.rehearsing.dry_run import SAMPLE
from whimbrel.engine.rehearsing.selection import draw_sample
from whimbrel.errors import TooSlow
from whimbrel.ports import Ahead, Caller, Callers, FunctionAnswer, Rehearsal, Store

FEW = 3  # documents tried before others are looked for
SECONDS = 3.0  # that all calls together may take


def try_function(
    store: Store, definition: Definition, run: Run, callers: Callers, *, strict: bool = False
) -> Run:
    """Calls the function for documents of a dry run's sample, until one answer is usable. Nothing is written.

    Returns the run, with the warnings that a person should know. A function with effects outside the database (`claim`) is not called. Raises
    DefinitionInvalid where no answer is usable, or the migrations cannot be loaded; under `strict` WarningsRefused where there are
    warnings.
    """
    if not needs_trial(definition):
        return run
    with callers(run) as caller:
        first, unusable = _first_answer(store, definition, run, caller)
    ahead = Ahead(
        documents=None, touched=None, unusable=unusable, differing_values=differing_values(definition, first)
    )
    refuse(unusable_answer_findings(ahead))
    warnings = list(process_value_findings(ahead))
    if strict:
        refuse_all(warnings)
    return replace(run, warnings=(*run.warnings, *warnings))


def _first_answer(
    store: Store, definition: Definition, run: Run, caller: Caller
) -> tuple[FunctionAnswer | None, str]:
    """Returns the first answer, if there is one, and what is wrong with it, if no answer is usable."""
    first, end = None, time.monotonic() + SECONDS
    try:
        for document in _documents(store.rehearsal(run), run):
            remaining = end - time.monotonic()
            if remaining <= 0:
                return first, ""
            answer = caller.call(document, min(definition.timeout, remaining))
            first = first or answer
            if not (isinstance(answer.outcome, FailedDocument) and answer.outcome.final):
                return first, ""
    except TooSlow:
        return first, ""
    return first, first.outcome.message if first is not None and isinstance(
        first.outcome, FailedDocument
    ) else ""


def needs_trial(definition: Definition) -> bool:
    """Whether there is a function that may be called."""
    return not (definition.declarative or definition.claim)


def _documents(rehearsal: Rehearsal, run: Run) -> Iterator[bytes]:
    """Yields a few documents that are found at once, mostly enough; then the sample of a dry run."""
    few: Sequence[bytes] = rehearsal.sample("oldest", query_of_first_phases(run), FEW)
    yield from few
    if len(few) == FEW:
        yield from draw_sample(rehearsal, run, SAMPLE, [])[1]
