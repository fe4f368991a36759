"""Trying a function before its run starts: a mistake that no retry mends is told at once, not by a failure for each document."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from whimbrel.domain.failures.failure import FailedDocument
from whimbrel.domain.migrations.migration import Definition
from whimbrel.domain.runs.preflight_findings import refuse, refuse_all
from whimbrel.domain.runs.run import Run, found_first
from whimbrel.engine.operating.preflight import (
    differing_values,
    process_value_findings,
    unusable_answer_findings,
)
from whimbrel.engine.rehearsing.dry_run import SAMPLE
from whimbrel.engine.rehearsing.selection import draw_sample
from whimbrel.errors import TooSlow
from whimbrel.ports import Ahead, Caller, Callers, FunctionAnswer, Rehearsal, Store

FEW = 3  # documents that are tried before others are looked for
SECONDS = 3.0  # that the calls may take together


def try_function(
    store: Store, definition: Definition, run: Run, callers: Callers, *, strict: bool = False
) -> Run:
    """Call the function for documents of a dry run's sample, until one has an answer that can be used. Nothing is written.

    The run, with what a person should know of it. A function with effects outside the database (`claim`) is not called. Raises
    DefinitionInvalid where no answer can be used, or the migrations cannot be loaded; under `strict` WarningsRefused where there is
    anything to say.
    """
    if not needs_trial(definition):
        return run
    with callers(run) as caller:
        first, unusable = _called(store, definition, run, caller)
    ahead = Ahead(
        documents=None, touched=None, unusable=unusable, differing_values=differing_values(definition, first)
    )
    refuse(unusable_answer_findings(ahead))
    told = list(process_value_findings(ahead))
    if strict:
        refuse_all(told)
    return replace(run, warnings=(*run.warnings, *told))


def _called(
    store: Store, definition: Definition, run: Run, caller: Caller
) -> tuple[FunctionAnswer | None, str]:
    """The first answer, if there is one, and what is wrong with it, if none can be used."""
    first, end = None, time.monotonic() + SECONDS
    try:
        for document in _documents(store.rehearsal(run), run):
            left = end - time.monotonic()
            if left <= 0:
                return first, ""
            found = caller.call(document, min(definition.timeout, left))
            first = first or found
            if not (isinstance(found.outcome, FailedDocument) and found.outcome.final):
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
    """A few that are found at once, mostly enough; then the sample of a dry run."""
    few: Sequence[bytes] = rehearsal.sample("oldest", found_first(run), FEW)
    yield from few
    if len(few) == FEW:
        yield from draw_sample(rehearsal, run, SAMPLE, [])[1]
