"""Trying a function before its run starts: a mistake that no retry mends is told at once, not by a failure for each document."""

import time
from collections.abc import Iterator, Sequence

from whimbrel.domain.failures import Trouble
from whimbrel.domain.findings import refuse
from whimbrel.domain.migration import Definition
from whimbrel.domain.runs import Run, found_first
from whimbrel.engine.dryrun import SAMPLE
from whimbrel.engine.preflight import answer
from whimbrel.engine.selection import draw
from whimbrel.errors import TooSlow
from whimbrel.ports import Ahead, Callers, Rehearsal, Store

FEW = 3  # documents that are tried before others are looked for
SECONDS = 3.0  # that the calls may take together


def attempt(store: Store, it: Definition, run: Run, callers: Callers) -> None:
    """Call the function for documents of a dry run's sample, until one has an answer that can be used. Nothing is written.

    A function with effects outside the database (`claim`) is not called. Raises DefinitionInvalid where no answer can be used, or the
    migrations cannot be loaded.
    """
    if not needs_trial(it):
        return
    first, end = None, time.monotonic() + SECONDS
    with callers(run) as caller:
        try:
            for document in _documents(store.rehearsal(run), run):
                left = end - time.monotonic()
                if left <= 0:
                    return
                outcome = caller.call(document, min(it.timeout, left)).outcome
                if not (isinstance(outcome, Trouble) and outcome.final):
                    return
                first = first or outcome
        except TooSlow:
            return
    if first is not None:
        refuse(answer(Ahead(documents=None, touched=None, unusable=first.message)))


def needs_trial(it: Definition) -> bool:
    """Whether there is a function that may be called."""
    return not (it.declarative or it.claim)


def _documents(rehearsal: Rehearsal, run: Run) -> Iterator[bytes]:
    """A few that are found at once, mostly enough; then the sample of a dry run."""
    few: Sequence[bytes] = rehearsal.sample("oldest", found_first(run), FEW)
    yield from few
    if len(few) == FEW:
        yield from draw(rehearsal, run, SAMPLE, [])[1]
